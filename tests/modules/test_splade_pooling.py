from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from raybert.errors import ModelError
from raybert.modules import Opening, SpladePooling

LOGITS = torch.tensor([[[1.0, -2, 0.5], [2, 3, -1], [9, 9, 9]]])
MASK = torch.tensor([[1, 1, 0]])
CASES = [
    ("max", "relu", [1.09861, 1.38629, 0.40547]),
    ("max", "log1p_relu", [0.74128, 0.86974, 0.34037]),
    ("sum", "relu", [1.79176, 1.38629, 0.40547]),
    ("sum", "log1p_relu", [1.26787, 0.86974, 0.34037]),
]


@pytest.mark.parametrize(("strategy", "activation", "expected"), CASES)
@pytest.mark.parametrize("training", [False, True])
def test_weights(strategy: str, activation: str, expected: list[float], training: bool) -> None:
    logits = LOGITS.clone().requires_grad_(training)
    module = SpladePooling(strategy, activation)
    for tokens, mask in ((logits, MASK), (logits.flip(1), MASK.flip(1))):
        found = module({"token_embeddings": tokens, "attention_mask": mask})["sentence_embedding"]
        torch.testing.assert_close(found[0], torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_a_text_without_tokens_is_zero(strategy: str) -> None:
    features = {"token_embeddings": LOGITS.clone(), "attention_mask": torch.zeros(1, 3).long()}
    found = SpladePooling(strategy)(features)["sentence_embedding"]
    assert torch.equal(found, torch.zeros(1, 3))


def test_saved_and_read_again(tmp_path: Path) -> None:
    SpladePooling("sum", "log1p_relu", 3).save(tmp_path)
    assert "word_embedding_dimension" in json.loads((tmp_path / "config.json").read_text())
    again = SpladePooling.load(tmp_path, Opening())
    assert (again.pooling_strategy, again.activation_function) == ("sum", "log1p_relu")
    assert again.width(0) == 3


def test_faults() -> None:
    with pytest.raises(ModelError, match="SpladePooling 'mean': allowed are max, sum"):
        SpladePooling("mean")
    with pytest.raises(ModelError, match="SpladePooling 'tanh': allowed are relu, log1p_relu"):
        SpladePooling("max", "tanh")
