from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from raybert.errors import ModelError
from raybert.modules import Opening, Transformer

WEIGHTS = "model.safetensors"


def edit(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(folder / WEIGHTS)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def test_opened(tiny: Path) -> None:
    transformer = Transformer.load(tiny, Opening())
    assert transformer.width(0) == 8
    assert transformer.tokenization.max_seq_length == 16
    features = transformer.tokenization.pad(transformer.tokenization(["a b c", "d"]))
    with torch.no_grad():
        found = transformer(features)
    assert found["token_embeddings"].shape == (2, 5, 8)


def test_half_precision(tiny: Path) -> None:
    transformer = Transformer.load(tiny, Opening(dtype=torch.bfloat16))
    assert {weight.dtype for weight in transformer.parameters()} == {torch.bfloat16}


def test_no_weights(tiny: Path) -> None:
    (tiny / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"has no weights \(model.safetensors\)"):
        Transformer.load(tiny, Opening())


def test_pickled_weights(tiny: Path) -> None:
    torch.save(load_file(tiny / WEIGHTS), tiny / "pytorch_model.bin")
    (tiny / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="pass allow_pickle=True"):
        Transformer.load(tiny, Opening())
    assert Transformer.load(tiny, Opening(allow_pickle=True)).width(0) == 8


def test_no_tokenizer(tiny: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        (tiny / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"has no tokenizer \(tokenizer.json\)"):
        Transformer.load(tiny, Opening())


def test_a_tokenizer_that_cannot_be_read(tiny: Path) -> None:
    (tiny / "tokenizer.json").write_text("{")
    (tiny / "vocab.txt").unlink()
    with pytest.raises(ModelError, match=r"tokenizer of .* cannot be read"):
        Transformer.load(tiny, Opening())


def test_weights_of_the_wrong_shape(tiny: Path) -> None:
    edit(tiny, "embeddings.word_embeddings.weight", torch.zeros(12, 9))
    with pytest.raises(ModelError, match=r"weights of .*tiny"):
        Transformer.load(tiny, Opening())


def test_weights_that_are_missing(tiny: Path) -> None:
    edit(tiny, "encoder.layer.0.output.dense.weight", None)
    with pytest.raises(ModelError, match=r"encoder.layer.0.output.dense.weight missing"):
        Transformer.load(tiny, Opening())


def test_a_missing_pooler_is_no_fault(tiny: Path) -> None:
    edit(tiny, "pooler.dense.weight", None)
    assert Transformer.load(tiny, Opening()).width(0) == 8


def test_weights_that_are_not_finite(tiny: Path) -> None:
    edit(tiny, "embeddings.LayerNorm.bias", torch.tensor([0, 0, torch.nan, 0, 0, 0, 0, 0]))
    with pytest.raises(ModelError, match=r"embeddings.LayerNorm.bias holds NaN"):
        Transformer.load(tiny, Opening())


def test_weights_cut_off(tiny: Path) -> None:
    (tiny / WEIGHTS).write_bytes((tiny / WEIGHTS).read_bytes()[:200])
    with pytest.raises(ModelError, match=r"weights of .*tiny.* cannot be used"):
        Transformer.load(tiny, Opening())


def test_an_unknown_kind_of_model(tiny: Path) -> None:
    (tiny / "config.json").write_text(json.dumps({"model_type": "perpetuum"}))
    with pytest.raises(ModelError, match=r"configuration of .* cannot be used"):
        Transformer.load(tiny, Opening())


def test_an_unknown_task(tiny: Path) -> None:
    (tiny / "sentence_bert_config.json").write_text('{"transformer_task": "dreaming"}')
    with pytest.raises(ModelError, match="transformer_task 'dreaming': allowed are feature-extr"):
        Transformer.load(tiny, Opening())


def test_saved_and_read_again(tiny: Path, tmp_path: Path) -> None:
    transformer = Transformer.load(tiny, Opening())
    transformer.tokenization.max_seq_length = 9
    (tmp_path / "saved").mkdir()
    transformer.save(tmp_path / "saved")
    again = Transformer.load(tmp_path / "saved", Opening())
    assert again.tokenization.max_seq_length == 9
    for mine, other in zip(transformer.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, other)
