"""The export job on a small model: the folder it leaves, what it measures, what it refuses."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import transformers

from raybert import DenseEncoder
from raybert.artifacts import lineage, read_manifest
from raybert.encoders.exporting import Export
from raybert.errors import ModelError, SettingsError
from raybert.evaluation.agreement import Agreement
from raybert.modules import Normalize, Pooling, Tokenization, Transformer

TEXTS = ["what is ray", "a longer text of several words, and then some more", "x"]
Job = Callable[..., str]
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dense model."""
    tokenization = Tokenization.open(minilm)
    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=len(tokenization.tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    modules = [Transformer(transformers.BertModel(config).eval(), tokenization), Pooling(32)]
    encoder = DenseEncoder([*modules, Normalize()], device="cpu")
    return encoder.save_pretrained(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="module")
def export(load_job: Callable[[str], ModuleType], model: Path) -> Job:
    """Run the job in this process."""
    job = load_job("export_model")

    def run(out: Path, **settings: object) -> str:
        given = {"model": str(model), "out": str(out), "tracking_uri": "none", **settings}
        return str(job.main(job.ExportModel(**given)))

    return run


@pytest.fixture(scope="module")
def exported(export: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, exported to ONNX in eight bits."""
    return Path(export(tmp_path_factory.mktemp("out") / "int8", quantize="avx2"))


def test_the_folder_is_the_model_with_a_file_more(exported: Path, model: Path) -> None:
    names = {path.relative_to(exported).as_posix() for path in exported.rglob("*.*")}
    before = {path.relative_to(model).as_posix() for path in model.rglob("*.*")}
    assert names - before == {"onnx/model_qint8_avx2.onnx", "manifest.json"}
    plain = DenseEncoder(model, device="cpu").encode(TEXTS)
    assert np.array_equal(DenseEncoder(exported, device="cpu").encode(TEXTS), plain)
    fast = DenseEncoder(exported, device="cpu", backend="onnx").encode(TEXTS)
    assert 0.97 < (fast * plain).sum(axis=1).min() < 1


def test_the_manifest_tells_what_was_measured(exported: Path, model: Path) -> None:
    manifest = read_manifest(exported, kind="model")
    assert manifest.details["backend"] == "onnx:model_qint8_avx2.onnx"
    measured = manifest.details["measured"]
    assert measured["mean_cosine"] > 0.97
    assert measured["ranking"] > 0.9
    assert measured["times_torch"] > 0
    assert manifest.fingerprint == DenseEncoder(exported, device="cpu").fingerprint
    assert [node.input.uri for node in lineage(str(exported)).inputs] == [str(model)]


def test_the_fastest_back_end_is_measured(exported: Path) -> None:
    encoder = DenseEncoder(exported, device="cpu", backend="auto")
    assert encoder.backend in ("torch", "torch:int8", "onnx:model_qint8_avx2.onnx")
    assert DenseEncoder(exported, device="cpu").backend == "torch"


def test_a_finished_export_is_not_made_again(
    export: Job, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(exported, quantize="avx2")
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(ModelError, match="holds another model"):
        export(exported, optimize="O1")


def test_an_export_below_the_floor_is_removed(
    export: Job, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(_: object, out: Path, how: Export, *__: object) -> Path:
        shutil.copytree(exported, out, ignore=shutil.ignore_patterns("manifest.json"))
        return out / how.file

    job = sys.modules["pipelines_export_model"]
    monkeypatch.setattr(job, "export_folder", copied)
    monkeypatch.setattr(job, "compare", lambda *_: Agreement(0.9, 0.1, 0.5, 0.99))
    with pytest.raises(ModelError, match=r"was removed: mean_cosine 0.5000 < 0.97"):
        export(tmp_path / "out", quantize="avx2")
    assert not (tmp_path / "out" / "onnx").exists()
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "openvino", "optimize": "O2"}, "--optimize O2: is for onnx"),
        ({"backend": "openvino", "quantize": "avx2"}, "openvino has only int8"),
        ({"optimize": "O2", "quantize": "int8"}, "give one"),
        ({"out": "memory://x"}, "to a local folder"),
    ],
)
def test_what_does_not_go_together_is_refused(
    export: Job, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        export(**{"out": tmp_path / "out", **settings})
