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

from raybert.errors import SettingsError
from raybert.losses.graded_pairs import CoSENTLoss
from raybert.losses.loss import LossInputs
from raybert.losses.regularization import GlobalOrthogonalRegularizationLoss, SumLoss


def test_specified_number(toy: SimpleNamespace) -> None:
    terms = GlobalOrthogonalRegularizationLoss().terms(LossInputs.of(toy.a, toy.p))
    assert terms["gor_mean"].item() == pytest.approx(0.2894094, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(data, data.draw(st.integers(1, 3)))
    name = data.draw(st.sampled_from(["cosine", "dot"]))
    arguments: dict[str, Any] = {
        "aggregation": data.draw(st.sampled_from(["mean", "sum"])),
        "mean_weight": data.draw(st.sampled_from([1.0, 0.5, None])),
        "second_moment_weight": 2.0,
    }
    ours = GlobalOrthogonalRegularizationLoss(name, **arguments)
    function = util.cos_sim if name == "cosine" else util.dot_score
    theirs = oracle.GlobalOrthogonalRegularizationLoss(column_model(), function, **arguments)
    assert_same(
        lambda *tensors: ours.terms(LossInputs.of(*tensors)),
        lambda *tensors: theirs.compute_loss_from_embeddings(list(tensors)),
        columns,
    )


def test_a_sum_has_the_terms_of_its_parts(toy: SimpleNamespace) -> None:
    parts = (CoSENTLoss(), CoSENTLoss(scale=1.0), GlobalOrthogonalRegularizationLoss())
    total = SumLoss(parts[0], parts[1:])
    inputs = LossInputs.of(toy.a, toy.p)
    assert list(total.terms(inputs, toy.y)) == ["loss", "loss.2", "gor_mean", "gor_second_moment"]
    expected = torch.stack([part(inputs, toy.y) for part in parts]).sum()
    torch.testing.assert_close(total(inputs, toy.y), expected)
    assert total.columns == CoSENTLoss.columns
    assert not total.by_rows


def test_no_weight_at_all_is_refused() -> None:
    with pytest.raises(SettingsError, match="second_moment_weight"):
        GlobalOrthogonalRegularizationLoss(mean_weight=None, second_moment_weight=0.0)
