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

from raybert.errors import InputError, SettingsError
from raybert.losses.distillation import (
    DistillKLDivLoss,
    EmbedDistillLoss,
    MarginMSELoss,
    MSELoss,
)
from raybert.losses.loss import LossInputs


@pytest.mark.parametrize(
    "labels", [torch.tensor([1.0, 2, 0.5]), torch.tensor([[2.0, 1], [3, 1], [1, 0.5]])]
)
def test_margins_and_scores_give_the_specified_number(toy: SimpleNamespace, labels: Tensor) -> None:
    value = MarginMSELoss()(LossInputs.of(toy.a, toy.p, toy.n), labels)
    assert value.item() == pytest.approx(0.6666667, abs=1e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.0573359), (2.0, 0.0749174)])
def test_divergence_gives_the_specified_numbers(
    toy: SimpleNamespace, temperature: float, expected: float
) -> None:
    labels = torch.tensor([[2.0, 1], [3, 1], [1, 0.5]])
    value = DistillKLDivLoss(temperature=temperature)(LossInputs.of(toy.a, toy.p, toy.n), labels)
    assert value.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "expected"), [("mse", 0.05), ("l2", 0.2666667), ("cosine", 0.0252330)]
)
def test_vectors_give_the_specified_numbers(
    toy: SimpleNamespace, metric: str, expected: float
) -> None:
    value = EmbedDistillLoss(metric)(LossInputs.of(toy.a), toy.p)
    assert value.item() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_scores_equal_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(data, data.draw(st.integers(3, 5)))
    rows, candidates = len(columns[0]), len(columns) - 1
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    labels = torch.randn(rows, candidates, generator=generator).double()
    ours: Any
    if data.draw(st.booleans()):
        ours, theirs = MarginMSELoss(), oracle.MarginMSELoss(column_model())
        labels = labels if data.draw(st.booleans()) else labels[:, 1:]
    else:
        softness: dict[str, Any] = {
            "temperature": data.draw(st.sampled_from([1.0, 2.0])),
            "student_temperature": data.draw(st.sampled_from([None, 0.5])),
            "teacher_temperature": data.draw(st.sampled_from([None, 3.0])),
        }
        ours = DistillKLDivLoss(**softness)
        theirs = oracle.DistillKLDivLoss(column_model(), **softness)
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors), labels),
        lambda *tensors: theirs.compute_loss_from_embeddings(list(tensors), labels),
        columns,
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_vectors_equal_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(data, data.draw(st.integers(1, 3)))
    rows, width = columns[0].shape
    projection = data.draw(st.sampled_from([None, 4]))
    shape = (rows, len(columns), projection or width)
    labels = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if data.draw(st.booleans()):
        labels = labels[:, 0]
    metric = data.draw(st.sampled_from(["cosine", "l2", "mse"]))
    wide = torch.Tensor.float if projection else torch.Tensor.contiguous
    ours = EmbedDistillLoss(metric, projection, width)
    theirs = oracle.EmbedDistillLoss(column_model(width), metric, projection)
    if projection:
        # A trained layer is float32, and so is what goes through it.
        theirs.projection.load_state_dict(ours.projection.state_dict())
    assert_same(
        lambda *tensors: ours(LossInputs.of(*map(wide, tensors)), labels),
        lambda *tensors: theirs([{"sentence_embedding": wide(each)} for each in tensors], labels),
        columns,
        floor=1e-6,
    )


def test_mse_is_the_mse_of_embed_distill(toy: SimpleNamespace) -> None:
    assert MSELoss()(LossInputs.of(toy.a), toy.p).item() == pytest.approx(0.05, abs=1e-7)


def test_labels_of_another_shape_are_refused(toy: SimpleNamespace) -> None:
    triplets = LossInputs.of(toy.a, toy.p, toy.n)
    with pytest.raises(InputError, match=r"margins \[3, 1\] or scores \[3, 2\]"):
        MarginMSELoss()(triplets, torch.zeros(3, 3))
    with pytest.raises(InputError, match=r"teacher scores \(3, 2\)"):
        DistillKLDivLoss()(triplets, torch.zeros(3))
    with pytest.raises(InputError, match="teacher vectors"):
        MSELoss()(LossInputs.of(toy.a))
    with pytest.raises(InputError, match="projection_dim"):
        MSELoss()(LossInputs.of(toy.a), torch.zeros(3, 5))
    with pytest.raises(SettingsError, match="embedding_dimension"):
        MSELoss(projection_dim=5)
    with pytest.raises(SettingsError, match="student_temperature"):
        DistillKLDivLoss(temperature=0.0)


def test_one_candidate_teaches_no_distribution(toy: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="query, positive, negative"):
        DistillKLDivLoss()(LossInputs.of(toy.a, toy.p), torch.zeros(3, 1))
