from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import util
from sentence_transformers.sentence_transformer import losses as oracle
from torch import Tensor
from torch.nn import functional as F

from raybert.errors import InputError, SettingsError
from raybert.losses.distillation import MSELoss
from raybert.losses.in_batch import MultipleNegativesRankingLoss
from raybert.losses.loss import LossInputs
from raybert.losses.matryoshka import MatryoshkaLoss


def test_is_the_weighted_sum_over_normalized_cuts() -> None:
    anchors, positives = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(3))
    inner = MultipleNegativesRankingLoss(scale=1.0, similarity_fct="dot")
    loss = MatryoshkaLoss(inner, [4, 12, 8], [3.0, 1.0, 2.0])
    parts = [
        weight * inner(LossInputs.of(*(F.normalize(e[:, :width]) for e in (anchors, positives))))
        for width, weight in [(12, 1.0), (8, 2.0), (4, 3.0)]
    ]
    expected = torch.stack(parts).sum()
    torch.testing.assert_close(loss(LossInputs.of(anchors, positives)), expected)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(
        data, data.draw(st.integers(2, 3)), widths=(8,), zeros=False, coarse=False
    )
    dims = data.draw(st.sampled_from([[8], [2, 8], [8, 4, 3], [5, 2]]))
    weights = data.draw(st.sampled_from([None, [0.5, 2.0, 1.0]]))
    weights = weights if weights is None else weights[: len(dims)]
    model, name = column_model(8), data.draw(st.sampled_from(["cosine", "dot"]))
    function = util.cos_sim if name == "cosine" else util.dot_score
    inner = oracle.MultipleNegativesRankingLoss(model, scale=5.0, similarity_fct=function)
    theirs = oracle.MatryoshkaLoss(model, inner, dims, weights)
    ours = MatryoshkaLoss(MultipleNegativesRankingLoss(5.0, name), dims, weights)
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors)),
        lambda *tensors: theirs([{"sentence_embedding": each} for each in tensors], None),
        columns,
    )


@pytest.mark.parametrize("three_dimensional", [False, True])
def test_teacher_vectors_are_cut_along(
    column_model: Any, assert_same: Callable[..., None], three_dimensional: bool
) -> None:
    columns = list(torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1)))
    labels = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(2))
    labels = labels if three_dimensional else labels[:, 0]
    model = column_model(8)
    theirs = oracle.MatryoshkaLoss(model, oracle.MSELoss(model), [8, 3])
    ours = MatryoshkaLoss(MSELoss(), [8, 3])
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors), labels),
        lambda *tensors: theirs([{"sentence_embedding": each} for each in tensors], labels),
        columns,
    )


def test_a_drawn_width_is_the_same_everywhere_and_after_a_resume(toy: SimpleNamespace) -> None:
    def fresh() -> MatryoshkaLoss:
        return MatryoshkaLoss(MultipleNegativesRankingLoss(), [2, 1], n_dims_per_step=1, seed=4)

    inputs = LossInputs.of(toy.a, toy.p)
    loss, other = fresh(), fresh()
    values = [loss(inputs).item() for _ in range(8)]
    assert len(set(values)) == 2
    assert [other(inputs).item() for _ in range(3)] == values[:3]
    resumed = fresh()
    resumed.load_state_dict(other.state_dict())
    assert [resumed(inputs).item() for _ in range(5)] == values[3:]
    assert not loss.by_rows


def test_wrong_widths_are_refused(toy: SimpleNamespace) -> None:
    inner = MultipleNegativesRankingLoss()
    with pytest.raises(SettingsError, match="above 0"):
        MatryoshkaLoss(inner, [0, 4])
    with pytest.raises(SettingsError, match="1 for 2"):
        MatryoshkaLoss(inner, [2, 4], [1.0])
    with pytest.raises(InputError, match=r"holds 16.*2 wide"):
        MatryoshkaLoss(inner, [16])(LossInputs.of(toy.a, toy.p))
