from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from raybert.errors import ModelError
from raybert.modules import Opening, Pooling

TOKENS = torch.tensor(
    [
        [[1.0, 2], [3, 4], [-5, 6], [0, 0]],
        [[9, 9], [1, 2], [3, 4], [-5, 6]],
    ]
)
MASK = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
WHOLE = {
    "cls": [1, 2],
    "max": [3, 6],
    "mean": [-0.33333, 4],
    "mean_sqrt_len_tokens": [-0.57735, 6.92820],
    "weightedmean": [-1.33333, 4.66667],
    "lasttoken": [-5, 6],
}
WITHOUT_PROMPT = {
    "cls": [3, 4],
    "max": [3, 6],
    "mean": [-1, 5],
    "mean_sqrt_len_tokens": [-1.41421, 7.07107],
    "weightedmean": [-1.8, 5.2],
    "lasttoken": [-5, 6],
}


def pooled(module: Pooling, **more: Any) -> torch.Tensor:
    features = {"token_embeddings": TOKENS, "attention_mask": MASK, **more}
    result: torch.Tensor = module(features)["sentence_embedding"]
    return result


@pytest.mark.parametrize(("mode", "expected"), WHOLE.items())
def test_modes_with_padding_on_either_side(mode: str, expected: list[float]) -> None:
    torch.testing.assert_close(
        pooled(Pooling(2, mode)), torch.tensor([expected, expected]).float(), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(("mode", "expected"), WITHOUT_PROMPT.items())
def test_the_prompt_left_out(mode: str, expected: list[float]) -> None:
    module = Pooling(2, mode, include_prompt=False)
    found = pooled(module, prompt_length=1)
    torch.testing.assert_close(found, torch.tensor([expected, expected]).float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(pooled(module), pooled(Pooling(2, mode)))


def test_several_modes_concatenate_in_the_given_order() -> None:
    module = Pooling(2, ["mean", "cls", "max"])
    assert module.width(2) == 6
    expected = torch.tensor([-0.33333, 4, 1, 2, 3, 6])
    torch.testing.assert_close(pooled(module)[0], expected, atol=1e-4, rtol=0)


def test_a_text_without_tokens() -> None:
    features = {"token_embeddings": TOKENS[:1], "attention_mask": torch.zeros(1, 4).long()}
    modes = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
    found = Pooling(2, modes)(features)["sentence_embedding"][0]
    inf = float("inf")
    torch.testing.assert_close(found, torch.tensor([1, 2, -inf, -inf, 0, 0, 0, 0, 0, 0, 0, 0]))


def test_sums_of_half_floats_are_taken_in_single() -> None:
    many = torch.full((1, 4096, 1), 0.1, dtype=torch.float16)
    features = {"token_embeddings": many, "attention_mask": torch.ones(1, 4096).long()}
    found = Pooling(1, "mean")(features)["sentence_embedding"]
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, many[:, 0])


LEGACY = {"word_embedding_dimension": 2, "pooling_mode_mean_tokens": False}


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({**LEGACY, "pooling_mode_cls_token": True}, ("cls",)),
        (LEGACY, ("mean",)),
        (
            {"word_embedding_dimension": 2, "pooling_mode_mean_tokens": True}
            | {"pooling_mode_cls_token": True},
            ("cls", "mean"),
        ),
        ({"embedding_dimension": 2, "pooling_mode": "max"}, ("max",)),
        ({"embedding_dimension": 2, "pooling_mode": ["mean", "cls"]}, ("mean", "cls")),
        ({**LEGACY, "pooling_mode_cls_token": True, "pooling_mode": "lasttoken"}, ("lasttoken",)),
    ],
)
def test_configurations_old_and_new(
    tmp_path: Path, config: dict[str, Any], modes: tuple[str, ...]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Pooling.load(tmp_path, Opening()).modes == modes


@pytest.mark.parametrize("modes", ["mean", ["cls", "mean"], ["mean", "cls"]])
def test_saved_and_read_again(tmp_path: Path, modes: str | list[str]) -> None:
    Pooling(2, modes, include_prompt=False).save(tmp_path)
    again = Pooling.load(tmp_path, Opening())
    assert again.modes == Pooling(2, modes).modes
    assert not again.include_prompt
    styles = json.loads((tmp_path / "config.json").read_text())
    assert ("pooling_mode" in styles) == (modes == ["mean", "cls"])


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pooling mode 'median': allowed are cls, max, mean"):
        Pooling(2, "median")
    with pytest.raises(ModelError, match="is missing"):
        Pooling.load(tmp_path, Opening())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="word_embedding_dimension is missing"):
        Pooling.load(tmp_path, Opening())
