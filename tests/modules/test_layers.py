"""Modules over features, held to the oracle's, and through their files and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import sentence_transformer
from sentence_transformers.base.modules import Dense as DenseOracle
from torch import nn

from raybert.errors import ModelError
from raybert.modules import (
    CNN,
    LSTM,
    Dense,
    Dropout,
    LayerNorm,
    Module,
    Normalize,
    Opening,
    WeightedLayerPooling,
)

oracle = sentence_transformer.modules
WIDTH, TOKENS = 6, 5


def features() -> dict[str, Any]:
    torch.manual_seed(1)
    mask = torch.tensor([[1] * TOKENS, [1, 1, 1, 0, 0]])
    tokens = torch.randn(2, TOKENS, WIDTH) * mask[:, :, None]
    return {
        "token_embeddings": tokens,
        "sentence_embedding": torch.randn(2, WIDTH),
        "all_layer_embeddings": tuple(torch.randn(2, TOKENS, WIDTH) for _ in range(4)),
        "attention_mask": mask,
        "sentence_lengths": mask.sum(1),
    }


CASES: list[tuple[Module, Any]] = [
    (Dense(WIDTH, 4), DenseOracle(WIDTH, 4)),
    (Dense(WIDTH, 4, bias=False, activation_function=nn.Identity()),
     DenseOracle(WIDTH, 4, bias=False, activation_function=nn.Identity())),
    (Dense(WIDTH, 4, use_residual=True), DenseOracle(WIDTH, 4, use_residual=True)),
    (Dense(WIDTH, WIDTH, activation_function=nn.GELU(), use_residual=True),
     DenseOracle(WIDTH, WIDTH, activation_function=nn.GELU(), use_residual=True)),
    (Normalize(), oracle.Normalize()),
    (Normalize("token_embeddings"), oracle.Normalize("token_embeddings")),
    (LayerNorm(WIDTH), oracle.LayerNorm(WIDTH)),
    (Dropout(0.3), oracle.Dropout(0.3)),
    (WeightedLayerPooling(WIDTH, 3, 1), oracle.WeightedLayerPooling(WIDTH, 3, 1)),
    (CNN(WIDTH, 4, [1, 3]), oracle.CNN(WIDTH, 4, [1, 3])),
    (LSTM(WIDTH, 4, num_layers=2), oracle.LSTM(WIDTH, 4, num_layers=2)),
    (LSTM(WIDTH, 4, bidirectional=False), oracle.LSTM(WIDTH, 4, bidirectional=False)),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), CASES)
def test_the_oracles_results_and_files(ours: Module, theirs: Any, tmp_path: Path) -> None:
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        for weight in ours.parameters():
            weight.normal_()
    theirs.load_state_dict(ours.state_dict())
    expected = theirs(features())
    found = ours(features())
    for name in ("token_embeddings", "sentence_embedding"):
        torch.testing.assert_close(found[name], expected[name])
    for directory in ("ours", "theirs"):
        (tmp_path / directory).mkdir()
    ours.save(tmp_path / "ours")
    theirs.save(str(tmp_path / "theirs"))
    for folder in (tmp_path / "ours", tmp_path / "theirs"):
        again = type(ours).load(folder, Opening()).eval()
        assert again.width(WIDTH) == ours.width(WIDTH)
        for name in ("token_embeddings", "sentence_embedding"):
            torch.testing.assert_close(again(features())[name], expected[name])
    reopened = type(theirs).load(str(tmp_path / "ours")).eval()
    torch.testing.assert_close(
        reopened(features())["sentence_embedding"], expected["sentence_embedding"]
    )


def test_dropout_acts_in_training_only() -> None:
    module = Dropout(0.5).train()
    found = module({"sentence_embedding": torch.ones(1, 1000)})["sentence_embedding"]
    assert 300 < int((found == 0).sum()) < 700


def test_convolutions_do_not_see_padding() -> None:
    module = CNN(WIDTH, 4, [3]).eval()
    batch = features()
    alone = {
        "token_embeddings": batch["token_embeddings"][1:, :3],
        "attention_mask": torch.ones(1, 3),
    }
    batch["token_embeddings"][1, 3:] = 99
    together = module(batch)["token_embeddings"][1, :3]
    torch.testing.assert_close(together, module(alone)["token_embeddings"][0])


@pytest.mark.parametrize("path", ["os.system", "torch.load", "torch.nn.modules.loss.Missing"])
def test_activations_are_named_not_run(path: str, tmp_path: Path) -> None:
    config = {"in_features": 2, "out_features": 2, "activation_function": path}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"is not one of torch\.nn"):
        Dense.load(tmp_path, Opening())
