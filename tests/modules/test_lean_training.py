"""Lean training: the gradients of torch's own, and dropout that is fair."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from raybert.modules import lean_training
from raybert.modules.lean_training import LeanDropout, lean_dropout, make_lean


def bert(dropout: float) -> Any:
    """A small masked language model, whose decoder shares the word embeddings."""
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertForMaskedLM(config).train()


def gradients(model: Any) -> dict[str, Tensor]:
    """Gradients of two passes over padded ids."""
    for start in (0, 2):
        ids = torch.tensor([[5, 7, 9, 7, 0, 0], [8, 4, 3, 2, 1, 6], [0] * 6, [11] * 6])[start:][:2]
        mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6])
        logits = model(input_ids=ids, attention_mask=mask).logits
        logits[mask.bool()].square().mean().backward()  # padding is nobody's
    return {name: weight.grad for name, weight in model.named_parameters()}


def test_without_dropout_gradients_are_those_of_torch() -> None:
    plain = bert(0.0)
    lean = copy.deepcopy(plain)
    make_lean(lean)
    known = gradients(plain)
    for name, gradient in gradients(lean).items():
        torch.testing.assert_close(gradient, known[name], rtol=1e-5, atol=1e-8)
    assert lean.config._attn_implementation == lean_training.ATTENTION
    assert "attn_implementation" not in str(lean.config.to_dict())


def test_attention_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def nothing_lost(values: Tensor, share: float) -> Tensor:
        asked.append(share)
        return values

    plain, lean = bert(0.3), bert(0.3)
    make_lean(lean)
    monkeypatch.setattr(lean_training, "lean_dropout", nothing_lost)
    known = gradients(plain.eval())
    found = gradients(lean)
    assert asked.count(0.3) == 2 * (1 + 3 * 2)  # a pass: embeddings, and three times a layer
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, known[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(1)
    values = torch.ones(300, 1001, requires_grad=True)
    found = lean_dropout(values, share)
    lost = found == 0
    assert lost.float().mean().item() == pytest.approx(share, abs=0.004)
    assert found.mean().item() == pytest.approx(1, abs=0.01)
    for apart in (1, 2, 7, 64, 1001, 4096):  # neighbours in a row, in a column, and in memory
        both = (lost.flatten()[apart:] & lost.flatten()[:-apart]).float().mean().item()
        assert both == pytest.approx(share**2, abs=0.004)
    for bit in range(18):  # no bit of a value's number decides
        odd = (torch.arange(lost.numel()) >> bit) & 1 == 1
        assert lost.flatten()[odd].float().mean().item() == pytest.approx(share, abs=0.006)
    (found * 3).sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    torch.testing.assert_close(values.grad, found.detach() * 3)
    torch.manual_seed(1)
    torch.testing.assert_close(lean_dropout(values, share), found)


def test_draws_of_dropout_know_nothing_of_each_other() -> None:
    torch.manual_seed(2)
    lost = torch.stack([lean_dropout(torch.ones(20_000), 0.1) == 0 for _ in range(60)]).float()
    assert lost.mean(0).var().item() == pytest.approx(0.1 * 0.9 / 60, rel=0.1)
    apart = torch.corrcoef(lost).fill_diagonal_(0).abs()
    assert apart.max().item() < 5 / 20_000**0.5


def test_dropout_of_what_is_laid_out_otherwise_and_of_other_formats() -> None:
    values = torch.randn(6, 500, 8).transpose(1, 2).requires_grad_()
    (found := lean_dropout(values, 0.5)).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found, values * 2 * (found != 0))
    assert values.grad is not None
    assert values.grad.equal((found != 0) * 2.0)
    for dtype in (torch.float64, torch.bfloat16):
        found = lean_dropout(torch.ones(1000, dtype=dtype), 0.5)
        assert found.dtype == dtype
        assert 400 < (found == 0).sum() < 600


def test_dropout_of_nothing_of_all_and_outside_of_training() -> None:
    values = torch.randn(5, 7)
    assert lean_dropout(values, 0.0).equal(values)
    assert not lean_dropout(values, 1.0).any()
    assert nn.Sequential(LeanDropout(0.5)).eval()(values).equal(values)
