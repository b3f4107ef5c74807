"""What is wrong with a model's folder, or with what is handed to it: one clear line each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from raybert import DenseEncoder, open_encoder
from raybert.encoders import open_tokenizing
from raybert.errors import InputError, ModelError, RaybertError
from raybert.modules import Dense, Pooling, Transformer

Small = Callable[[str], Path]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def whole(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three modules."""
    modules = [Transformer.open(small("bert")), Pooling(48), Dense(48, 8)]
    folder = tmp_path_factory.mktemp("models") / "whole"
    return DenseEncoder(modules, device="cpu").save_pretrained(folder)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def reweigh(path: Path, name: str, value: torch.Tensor) -> None:
    save_file({**load_file(path), name: value}, path, metadata={"format": "pt"})


def retype(folder: Path, place: int, **entry: str) -> None:
    listing = json.loads((folder / "modules.json").read_text())
    listing[place] |= entry
    (folder / "modules.json").write_text(json.dumps(listing))


def reshape_transformer(folder: Path) -> None:
    reweigh(folder / WEIGHTS, "embeddings.position_embeddings.weight", torch.zeros(80, 47))


def reshape_dense(folder: Path) -> None:
    reweigh(folder / "2_Dense" / WEIGHTS, "linear.weight", torch.zeros(8, 47))


def not_a_number(folder: Path) -> None:
    reweigh(folder / WEIGHTS, "embeddings.LayerNorm.bias", torch.full((48,), torch.nan))


def infinite_dense(folder: Path) -> None:
    reweigh(folder / "2_Dense" / WEIGHTS, "linear.bias", torch.full((8,), torch.inf))


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


def no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def unknown_type(folder: Path) -> None:
    retype(folder, 1, type="sentence_transformers.models.Oracle")


def own_code(folder: Path) -> None:
    retype(folder, 1, type="pooling.Pooling")


def outside(folder: Path) -> None:
    retype(folder, 1, path="../elsewhere")


def unset(folder: Path) -> None:
    (folder / "2_Dense" / "config.json").write_text('{"in_features": 48}')


def too_large(folder: Path) -> None:
    with (folder / "config.json").open("wb") as file:
        file.truncate(65 * 1024 * 1024)


def chat(folder: Path) -> None:
    settings: dict[str, Any] = {"modality_config": {"text": {}, "message": {}}}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (reshape_transformer, r"weights of .*model' (do not fit|cannot be used)"),
        (reshape_dense, r"weights of .*2_Dense' do not fit: .*linear.weight"),
        (not_a_number, r"embeddings.LayerNorm.bias holds NaN or infinite values"),
        (infinite_dense, r"2_Dense': linear.bias holds NaN or infinite values"),
        (no_tokenizer, r"has no tokenizer \(tokenizer.json\)"),
        (no_weights, r"has no weights \(model.safetensors\)"),
        (pickled, r"its weights are pickled \(pytorch_model.bin\).*allow_pickle=True"),
        (unknown_type, r"unknown module type 'Oracle'; known are .*Pooling"),
        (own_code, r"'pooling.Pooling' is code of its own"),
        (outside, r"'../elsewhere' leads out of the folder"),
        (unset, r"configuration of Dense in '2_Dense' cannot be used: KeyError 'out_features'"),
        (too_large, r"config.json': larger than 64 MiB"),
        (chat, r"reads chat messages; its tokenizer has no chat_template"),
    ],
)
def test_one_line_says_what_is_wrong(
    damage: Callable[[Path], None], said: str, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=said) as caught:
        open_encoder(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_nothing_is_run_before_the_tokenizer_is_found(folder: Path) -> None:
    no_tokenizer(folder)
    with pytest.raises(ModelError, match="has no tokenizer"):
        open_tokenizing(folder)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["fine", None], "text 1: a string is expected, not NoneType 'None'"),
        ([b"bytes"], "text 0: a string is expected, not bytes"),
        (["fine", ("a", "b")], "text 1: a string is expected, not tuple"),
        (np.zeros((4, 4, 3), np.uint8), "text 0: a string is expected, not list"),
        (7, "a text or a list of texts is expected, not int"),
    ],
)
def test_what_is_no_text(inputs: Any, said: str, whole: Path) -> None:
    encoder = DenseEncoder(whole, device="cpu")
    with pytest.raises(InputError, match=said) as caught:
        encoder.encode(inputs)
    assert "\n" not in str(caught.value)


def test_a_model_of_texts_reads_no_images(whole: Path, tmp_path: Path) -> None:
    encoder = DenseEncoder(whole, device="cpu")
    with pytest.raises(RaybertError, match="this model reads texts only, no images"):
        encoder.encode_images([tmp_path / "one.png"])
