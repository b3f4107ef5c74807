from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sparse_encoder import losses as oracle
from torch import Tensor

from raybert.errors import SettingsError
from raybert.losses.loss import LossInputs
from raybert.losses.sparse_forms import SparseMultipleNegativesRankingLoss
from raybert.losses.sparsity import FlopsLoss, SpladeLoss, regularizer_share

ROWS = torch.tensor([[1.0, 0, 2, 0], [0, 3, 1, 1]])


def test_flops_gives_the_specified_numbers() -> None:
    assert FlopsLoss()(LossInputs.of(ROWS)).item() == 5.0
    assert FlopsLoss(threshold=2)(LossInputs.of(ROWS)).item() == 2.75


@pytest.mark.parametrize(
    ("step", "documents", "queries"),
    [
        (0, 0.0, 0.0),
        (1, 3e-9, 5e-9),
        (50, 7.5e-6, 1.25e-5),
        (99, 2.9403e-5, 4.9005e-5),
        (100, 3e-5, 5e-5),
        (299, 3e-5, 5e-5),
    ],
)
def test_weights_grow_by_the_specified_schedule(
    step: int, documents: float, queries: float
) -> None:
    loss = SpladeLoss(SparseMultipleNegativesRankingLoss(), 3e-5, 5e-5)
    assert loss.document_regularizer_weight == 3e-5
    loss.at_step(step, 300)
    assert loss.document_regularizer_weight == pytest.approx(documents, rel=1e-9, abs=0)
    assert loss.query_regularizer_weight == pytest.approx(queries, rel=1e-9, abs=0)


def test_linear_growth_and_short_runs() -> None:
    assert regularizer_share(50, 300, scheduler_type="linear") == 0.5
    assert regularizer_share(0, 2) == 0.0
    assert regularizer_share(1, 2) == 1.0


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_splade_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = [column.relu() for column in draw_columns(data, data.draw(st.integers(2, 4)))]
    documents_only = data.draw(st.booleans())
    arguments: dict[str, Any] = {
        "document_regularizer_weight": 0.3,
        "query_regularizer_weight": None
        if documents_only
        else data.draw(st.sampled_from([None, 0.5])),
        "document_regularizer_threshold": data.draw(st.sampled_from([None, 1])),
        "query_regularizer_threshold": data.draw(st.sampled_from([None, 2])),
        "use_document_regularizer_only": documents_only,
    }
    model = column_model()
    theirs = oracle.SpladeLoss(model, oracle.SparseMultipleNegativesRankingLoss(model), **arguments)
    ours = SpladeLoss(SparseMultipleNegativesRankingLoss(), **arguments)
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors)),
        lambda *tensors: theirs([{"sentence_embedding": each} for each in tensors], None),
        columns,
    )


def test_terms_are_named(toy: SimpleNamespace) -> None:
    loss = SpladeLoss(SparseMultipleNegativesRankingLoss(), 3e-5, 5e-5)
    names = set(loss.terms(LossInputs.of(toy.a, toy.p)))
    assert names == {"loss", "document_regularizer", "query_regularizer"}


def test_contradicting_settings_are_refused() -> None:
    base = SparseMultipleNegativesRankingLoss()
    with pytest.raises(SettingsError, match="query_regularizer_weight"):
        SpladeLoss(base, 1.0, 1.0, use_document_regularizer_only=True)
    with pytest.raises(SettingsError, match="warmup_ratio"):
        SpladeLoss(base, 1.0, warmup_ratio=0.0)
    with pytest.raises(SettingsError, match="quadratic, linear"):
        SpladeLoss(base, 1.0, scheduler_type="cubic")
