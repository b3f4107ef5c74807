from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer import losses as oracle
from torch import Tensor

from raybert.losses.loss import LossInputs
from raybert.losses.triplet import TripletLoss

METRICS = {
    "cosine": oracle.TripletDistanceMetric.COSINE,
    "euclidean": oracle.TripletDistanceMetric.EUCLIDEAN,
    "manhattan": oracle.TripletDistanceMetric.MANHATTAN,
}


def test_specified_number(toy: SimpleNamespace) -> None:
    value = TripletLoss()(LossInputs.of(toy.a, toy.p, toy.n))
    assert value.item() == pytest.approx(3.6571910, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(data, 3)
    metric = data.draw(st.sampled_from(list(METRICS)))
    margin = data.draw(st.sampled_from([0.3721, 5.0]))
    ours = TripletLoss(metric, margin)
    theirs = oracle.TripletLoss(column_model(), METRICS[metric], margin)
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors)),
        lambda *tensors: theirs.compute_loss_from_embeddings(list(tensors), None),
        columns,
    )
