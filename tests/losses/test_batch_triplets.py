from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer import losses as oracle
from torch import Tensor

from raybert.losses import batch_triplets
from raybert.losses.batch_triplets import euclidean_distances
from raybert.losses.loss import LossInputs

EMBEDDINGS = torch.tensor([[0.0, 0], [1, 0], [0, 2], [3, 3]])
CLASSES = torch.tensor([0, 0, 1, 1])
NAMES = (
    "BatchAllTripletLoss",
    "BatchHardTripletLoss",
    "BatchHardSoftMarginTripletLoss",
    "BatchSemiHardTripletLoss",
)


@pytest.mark.parametrize(
    ("name", "expected"),
    list(zip(NAMES, (4.0600739, 4.6207342, 0.6246507, 4.5617170), strict=True)),
)
def test_specified_numbers(name: str, expected: float) -> None:
    value = getattr(batch_triplets, name)()(LossInputs.of(EMBEDDINGS), CLASSES)
    assert value.item() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_equal_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    (embeddings,) = draw_columns(data, 1, most=9)
    rows = len(embeddings)
    classes = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)))
    name, metric = (
        data.draw(st.sampled_from(NAMES)),
        data.draw(st.sampled_from(["euclidean", "cosine"])),
    )
    distances = oracle.BatchHardTripletLossDistanceFunction
    function = getattr(distances, f"{metric}_distance")
    margin = data.draw(st.sampled_from([0.3721, 5.0]))
    arguments: dict[str, Any] = {} if "SoftMargin" in name else {"margin": margin}
    ours = getattr(batch_triplets, name)(metric, **arguments)
    theirs = getattr(oracle, name)(column_model(), distance_metric=function, **arguments)
    assert_same(
        lambda tensor: ours(LossInputs.of(tensor), classes),
        lambda tensor: theirs.compute_loss_from_embeddings([tensor], classes),
        [embeddings],
    )


def test_equal_texts_are_zero_apart_and_have_a_gradient() -> None:
    embeddings = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 1.0]], requires_grad=True)
    distances = euclidean_distances(embeddings)
    distances.sum().backward()  # type: ignore[no-untyped-call]
    assert distances[0, 1].item() == 0
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
