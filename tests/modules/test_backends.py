"""A tiny BERT, exported once: what the engines give, and how files are found and refused."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from raybert.errors import ModelError
from raybert.modules import Opening, Transformer
from raybert.modules import backends as engines
from raybert.modules.backends import available_backends, exported_file
from raybert.modules.onnx_export import export_onnx, optimize_onnx, quantize_onnx
from raybert.modules.openvino_runner import convert_to_openvino, quantize_openvino
from raybert.modules.pretrained import open_config

TEXTS = ["a b c d", "g", "f e d c b a"]
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain transformers folder with `onnx/model.onnx`."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=12,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(str(folder))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefg"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(str(folder))
    (folder / "onnx").mkdir()
    export_onnx(folder, "feature-extraction", Opening(), folder / "onnx" / "model.onnx")
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "copied"))


def hidden(folder: Path, backend: str) -> np.ndarray[Any, Any]:
    """Return the embeddings of all real tokens."""
    model = Transformer.open(folder, Opening(backend=backend)).eval()
    features = model.tokenization.pad(model.tokenization(TEXTS))
    mask = features["attention_mask"].bool()
    with torch.inference_mode():
        found: torch.Tensor = model(features)["token_embeddings"][mask]
    return found.numpy()


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / lengths).min())


def test_an_exported_file_gives_what_torch_gives(exported: Path) -> None:
    assert np.abs(hidden(exported, "onnx") - hidden(exported, "torch")).max() < 1e-5
    assert np.abs(hidden(exported, "onnx:model.onnx") - hidden(exported, "torch")).max() < 1e-5


def test_names_are_those_of_sentence_transformers(exported: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported / "onnx" / "model.onnx")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    assert [item.name for item in session.get_inputs()] == names
    assert [item.name for item in session.get_outputs()] == ["last_hidden_state"]


@pytest.mark.parametrize(("level", "least"), [("O1", 0.999999), ("O2", 0.999999), ("O3", 0.999)])
def test_optimized_files_stay_near(copied: Path, level: str, least: float) -> None:
    out = copied / "onnx" / f"model_{level}.onnx"
    optimize_onnx(copied / "onnx" / "model.onnx", out, level, open_config(copied, Opening()))
    assert cosine(hidden(copied, f"onnx:{out.name}"), hidden(copied, "torch")) > least


@pytest.mark.parametrize("target", ["avx2", "avx512_vnni"])
def test_quantized_files_stay_near(copied: Path, target: str) -> None:
    out = copied / "onnx" / f"model_qint8_{target}.onnx"
    quantize_onnx(copied / "onnx" / "model.onnx", out, target)
    found = hidden(copied, f"onnx:{out.name}")
    assert cosine(found, hidden(copied, "torch")) > 0.99
    assert not np.array_equal(found, hidden(copied, "torch"))


def test_eight_bits_in_torch_need_no_file(exported: Path) -> None:
    found, expected = hidden(exported, "torch:int8"), hidden(exported, "torch")
    assert cosine(found, expected) > 0.999
    assert not np.array_equal(found, expected)


def test_openvino_gives_what_torch_gives(copied: Path) -> None:
    pytest.importorskip("openvino")
    plain = copied / "onnx" / "model.onnx"
    (copied / "openvino").mkdir()
    convert_to_openvino(plain, copied / "openvino" / "openvino_model.xml")
    assert np.abs(hidden(copied, "openvino") - hidden(copied, "torch")).max() < 1e-5
    assert available_backends(copied) == [
        "torch",
        "onnx:model.onnx",
        "openvino:openvino_model.xml",
    ]
    if importlib.util.find_spec("nncf") is None:
        pytest.skip("int8 for openvino needs nncf")
    tokenization = Transformer.open(copied).tokenization
    probes = [tokenization.pad(tokenization([text])) for text in TEXTS]
    out = copied / "openvino" / "openvino_model_qint8_quantized.xml"
    quantize_openvino(plain, out, probes)
    assert cosine(hidden(copied, f"openvino:{out.name}"), hidden(copied, "torch")) > 0.98


def test_torch_in_eight_bits_is_a_choice_where_a_file_has_eight(copied: Path) -> None:
    assert available_backends(copied) == ["torch", "onnx:model.onnx"]
    (copied / "onnx" / "model.onnx").rename(copied / "onnx" / "model_qint8_avx512.onnx")
    assert available_backends(copied) == ["torch", "torch:int8", "onnx:model_qint8_avx512.onnx"]


def test_files_are_found_and_refused_by_name(copied: Path) -> None:
    assert exported_file(copied, "onnx") == ("onnx", copied / "onnx" / "model.onnx")
    second = copied / "onnx" / "model_O2.onnx"
    (copied / "onnx" / "model.onnx").rename(second)
    assert exported_file(copied, "onnx") == ("onnx", second)
    shutil.copyfile(second, copied / "onnx" / "model_O3.onnx")
    for backend, message in [
        ("onnx", "several files; name one: onnx:model_O2.onnx, onnx:model_O3.onnx"),
        ("onnx:model_O4.onnx", "has model_O2.onnx, model_O3.onnx; pipelines/export_model.py"),
        ("onnx:../config.json", "has model_O2.onnx"),
        ("openvino", "has no .xml file"),
        ("tensorrt", "allowed are torch, torch:int8, torch:unpadded, onnx, openvino, auto"),
    ]:
        with pytest.raises(ModelError, match=message.replace(".", r"\.")):
            exported_file(copied, backend)


def test_a_missing_package_and_a_damaged_file_are_one_line(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied / "onnx" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be run"):
        hidden(copied, "onnx")
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'raybert\[onnx\]'"):
        hidden(copied, "onnx")
    assert available_backends(copied) == ["torch"]


def test_exported_models_are_not_trained_or_saved(exported: Path, tmp_path: Path) -> None:
    model = Transformer.open(exported, Opening(backend="onnx"))
    features = model.tokenization.pad(model.tokenization(TEXTS))
    with pytest.raises(ModelError, match="cannot be trained"):
        model(features)
    with pytest.raises(ModelError, match="copy its folder"):
        model.save(tmp_path)


def test_copies_start_an_engine_of_their_own(exported: Path) -> None:
    model = Transformer.open(exported, Opening(backend="onnx"))
    features = model.tokenization.pad(model.tokenization(TEXTS))
    with torch.inference_mode():
        expected = model(dict(features))["token_embeddings"]
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert twin.model._engine is None
            assert torch.equal(twin(dict(features))["token_embeddings"], expected)
