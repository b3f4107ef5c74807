from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer import losses as oracle
from torch import Tensor

from raybert.errors import InputError
from raybert.losses.graded_pairs import AnglELoss, CoSENTLoss, CosineSimilarityLoss, ordering_loss
from raybert.losses.loss import Loss, LossInputs


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(CosineSimilarityLoss(), 0.3363005), (CoSENTLoss(), 1.6846857), (AnglELoss(), 9.6415882)],
)
def test_specified_numbers(toy: SimpleNamespace, loss: Loss, expected: float) -> None:
    value = loss(LossInputs.of(toy.a, toy.p), toy.y)
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_equal_scores_cost_nothing_and_teach_nothing(toy: SimpleNamespace) -> None:
    anchors = toy.a.clone().requires_grad_()
    value = CoSENTLoss()(LossInputs.of(anchors, toy.p), torch.full((3,), 0.5))
    value.backward()
    assert value.item() == 0
    assert anchors.grad is not None
    assert not anchors.grad.any()


def test_only_strictly_ordered_pairs_count() -> None:
    logits, scores = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.5, 0.5, 0.9])
    expected = torch.log(1 + torch.exp(torch.tensor(1.0 - 4)) + torch.exp(torch.tensor(2.0 - 4)))
    torch.testing.assert_close(ordering_loss(logits, scores), expected)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equal_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    kind = data.draw(st.sampled_from(["CosineSimilarityLoss", "CoSENTLoss", "AnglELoss"]))
    columns = draw_columns(data, 2)
    values = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    rows = len(columns[0])
    labels = torch.tensor(data.draw(st.lists(values, min_size=rows, max_size=rows)))
    ours = {
        "CosineSimilarityLoss": CosineSimilarityLoss,
        "CoSENTLoss": CoSENTLoss,
        "AnglELoss": AnglELoss,
    }[kind]()
    theirs = getattr(oracle, kind)(column_model())
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors), labels),
        lambda *tensors: theirs.compute_loss_from_embeddings(list(tensors), labels),
        columns,
    )


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_angle_with_negatives_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(data, data.draw(st.integers(3, 4)))
    labels = torch.rand(len(columns[0])) if data.draw(st.booleans()) else None
    ours, theirs = AnglELoss(), oracle.AnglELoss(column_model())
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors), labels),
        lambda *tensors: theirs.compute_loss_from_embeddings(list(tensors), labels),
        columns,
    )


@pytest.mark.parametrize("loss", [CosineSimilarityLoss(), CoSENTLoss(), AnglELoss()])
@pytest.mark.parametrize("labels", [None, torch.zeros(2)])
def test_labels_must_be_one_a_row(toy: SimpleNamespace, loss: Loss, labels: Tensor | None) -> None:
    with pytest.raises(InputError, match="needs 3 labels"):
        loss(LossInputs.of(toy.a, toy.p), labels)
