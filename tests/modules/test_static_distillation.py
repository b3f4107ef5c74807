from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raybert import DenseEncoder
from raybert.errors import ModelError
from raybert.modules import Transformer
from raybert.modules.static_distillation import (
    distill_static,
    frame,
    inverse_frequency,
    principal_components,
)


def test_each_tokens_states_between_its_special_tokens(tiny: Path) -> None:
    teacher = Transformer.open(tiny)
    static = distill_static(teacher, pca_dims=None, sif_coefficient=None)
    assert frame(teacher.tokenization) == ([2], [3])
    encoder = DenseEncoder(tiny, device="cpu")
    for letter in "adg":
        found = static.embedding.weight[teacher.tokenization.tokenizer.get_vocab()[letter]]
        torch.testing.assert_close(found.detach(), torch.tensor(encoder.encode(letter)))


def test_a_static_model_encodes(tiny: Path, tmp_path: Path) -> None:
    static = distill_static(Transformer.open(tiny), pca_dims=4, token_remove_pattern="[ab]")
    model = DenseEncoder([static], device="cpu")
    assert model.encode(["c d", "a"]).shape == (2, 4)
    assert not model.encode("a b").any()
    model.save_pretrained(tmp_path / "static")
    again = DenseEncoder(tmp_path / "static", device="cpu")
    assert again.encode("c d").tobytes() == model.encode("c d").tobytes()


def test_components_and_weights() -> None:
    torch.manual_seed(0)
    points = torch.randn(50, 3) * torch.tensor([1.0, 9.0, 0.1]) + 5
    found = principal_components(points, 2)
    expected = torch.pca_lowrank(points.double(), q=3, center=True)
    torch.testing.assert_close(found.std(dim=0) ** 2 * 49, expected[1][:2] ** 2)
    weights = inverse_frequency(3, 0.1)
    assert weights.tolist() == sorted(weights.tolist())
    share = (1 / 2) / (1 / 2 + 1 / 3 + 1 / 4)
    assert float(weights[0]) == pytest.approx(0.1 / (0.1 + share))


def test_no_token_left(tiny: Path) -> None:
    with pytest.raises(ModelError, match="leaves no token"):
        distill_static(Transformer.open(tiny), token_remove_pattern=".*")
