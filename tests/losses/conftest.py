"""Toy tensors of the specification, and what compares a loss with the reference implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

Differentiable = Callable[..., Any]


class ColumnModel(nn.Module):
    """Stands in for a model of the reference implementation: features already are embeddings."""

    num_labels = 1
    device = torch.device("cpu")

    def __init__(self, width: int = 0) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return dict(features)

    def get_embedding_dimension(self) -> int:
        return self.width


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The tensors that the specification's numbers were computed with."""
    return SimpleNamespace(
        a=torch.tensor([[1.0, 0], [0, 1], [1, 1]]),
        p=torch.tensor([[1.0, 0.2], [0.1, 1], [1, 0.5]]),
        n=torch.tensor([[0.0, 1], [1, 0], [-1, 1]]),
        y=torch.tensor([0.9, 0.1, 0.5]),
        yb=torch.tensor([1, 0, 1]),
    )


@pytest.fixture(scope="session")
def column_model() -> type[ColumnModel]:
    """The stand-in for a model of the reference implementation."""
    return ColumnModel


class PairModel(nn.Module):
    """Stands in for a cross-encoder: pair (i, j) of text numbers has the logit [i, j] or [j]."""

    num_labels = 1
    device = torch.device("cpu")

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def preprocess(self, pairs: Sequence[tuple[str, str]], **_: Any) -> dict[str, Tensor]:
        return {"pairs": torch.tensor([[int(query), int(text)] for query, text in pairs])}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        query, text = features["pairs"].unbind(1)
        scores = self.logits[text] if self.logits.ndim == 1 else self.logits[query, text]
        return {"scores": scores[:, None]}


@pytest.fixture(scope="session")
def pair_model() -> type[PairModel]:
    """The stand-in for a cross-encoder of the reference implementation."""
    return PairModel


@pytest.fixture(scope="session")
def bare() -> Callable[..., Any]:
    """Make a module of the reference implementation without its model checks."""

    def make(kind: type[nn.Module], **attributes: Any) -> Any:
        module = kind.__new__(kind)
        nn.Module.__init__(module)
        for name, value in attributes.items():
            setattr(module, name, value)
        return module

    return make


@pytest.fixture(scope="session")
def draw_columns() -> Callable[..., list[Tensor]]:
    """Draw columns of embeddings with ties, equal rows and zero rows among them."""

    def draw(data: st.DataObject, columns: int, **limits: Any) -> list[Tensor]:
        rows = data.draw(st.integers(limits.get("least", 1), limits.get("most", 6)), "rows")
        width = data.draw(st.sampled_from(limits.get("widths", (1, 2, 3, 8))), "width")
        generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6), "seed"))
        coarse = limits.get("coarse", True) and data.draw(st.booleans(), "coarse")
        drawn = [torch.randn(rows, width, generator=generator) for _ in range(columns)]
        if coarse:
            drawn = [column.round() / 2 for column in drawn]
        if limits.get("zeros", True) and data.draw(st.booleans(), "zero row"):
            drawn[-1][0] = 0
        if rows > 1 and data.draw(st.booleans(), "equal rows"):
            for column in drawn:
                column[-1] = column[0]
        return drawn

    return draw


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """Compare value and gradients of two functions of the same tensors, relative to 1e-5.

    In float64 they agree to that; in float32 to that and twice the reference's own rounding, which
    is its distance from its float64 self.
    """

    def total(value: Any) -> Tensor:
        return torch.stack(list(value.values())).sum() if isinstance(value, dict) else value

    def run(
        function: Differentiable, tensors: Sequence[Tensor], dtype: torch.dtype
    ) -> tuple[Tensor, list[Tensor]]:
        leaves = [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in tensors]
        value = total(function(*leaves))
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach(), [
            torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves
        ]

    def compare(
        ours: Differentiable, oracle: Differentiable, tensors: Sequence[Tensor], floor: float = 1e-9
    ) -> None:
        exact: list[Tensor] = []
        for dtype, noise in ((torch.float64, floor), (torch.float32, 1e-6)):
            found = _flat(run(ours, tensors, dtype))
            wanted = _flat(run(oracle, tensors, dtype))
            exact = exact or wanted
            for ours_is, theirs_is, truth in zip(found, wanted, exact, strict=True):
                # float32 rounds: what the reference is off its float64 self may be off here too.
                allowed = 1e-5 * theirs_is.abs().max() + 2 * (theirs_is - truth).abs().max() + noise
                assert (ours_is - theirs_is).abs().max() <= allowed, (dtype, ours_is, theirs_is)

    return compare


def _flat(result: tuple[Tensor, list[Tensor]]) -> list[Tensor]:
    """Return value and gradients as one list; empty tensors have nothing to compare."""
    value, gradients = result
    return [value, *(gradient for gradient in gradients if gradient.numel())]
