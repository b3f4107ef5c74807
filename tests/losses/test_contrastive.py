from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer import losses as oracle
from sentence_transformers.sentence_transformer.losses.contrastive import SiameseDistanceMetric
from torch import Tensor

from raybert.errors import SettingsError
from raybert.losses.contrastive import ContrastiveLoss, OnlineContrastiveLoss, SoftmaxLoss
from raybert.losses.loss import LossInputs

METRICS = {
    "cosine": SiameseDistanceMetric.COSINE_DISTANCE,
    "euclidean": SiameseDistanceMetric.EUCLIDEAN,
    "manhattan": SiameseDistanceMetric.MANHATTAN,
}


def test_specified_numbers(toy: SimpleNamespace) -> None:
    inputs = LossInputs.of(toy.a, toy.p)
    assert ContrastiveLoss()(inputs, toy.yb).item() == pytest.approx(0.0413454, abs=1e-7)
    assert OnlineContrastiveLoss()(inputs, toy.yb).item() == pytest.approx(0.2480723, abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:.*binary labels")
def test_equal_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(data, 2)
    rows = len(columns[0])
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)))
    metric = data.draw(st.sampled_from(list(METRICS)))
    arguments: dict[str, Any] = {"margin": data.draw(st.sampled_from([0.5, 1.0]))}
    online = data.draw(st.booleans())
    if not online:
        arguments["size_average"] = data.draw(st.booleans())
    ours = (OnlineContrastiveLoss if online else ContrastiveLoss)(metric, **arguments)
    kind = oracle.OnlineContrastiveLoss if online else oracle.ContrastiveLoss
    theirs = kind(column_model(), distance_metric=METRICS[metric], **arguments)
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors), labels),
        lambda *tensors: theirs.compute_loss_from_embeddings(list(tensors), labels),
        columns,
    )


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_softmax_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(data, 2)
    rows, width = columns[0].shape
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)))
    parts = data.draw(
        st.sampled_from([(True, True, False), (True, True, True), (False, True, False)])
    )
    ours = SoftmaxLoss(width, 3, *parts)
    theirs = oracle.SoftmaxLoss(column_model(), width, 3, *parts)
    theirs.classifier.load_state_dict(ours.classifier.state_dict())
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors), labels),
        lambda *tensors: theirs([{"sentence_embedding": each} for each in tensors], labels),
        columns,
    )
    ours_weight, theirs_weight = ours.classifier.weight.grad, theirs.classifier.weight.grad
    torch.testing.assert_close(ours_weight, theirs_weight)


def test_softmax_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="concatenation"):
        SoftmaxLoss(4, 3, False, False, False)


def test_unknown_distance_is_refused() -> None:
    with pytest.raises(SettingsError, match="cosine, euclidean, manhattan"):
        ContrastiveLoss("taxi")
