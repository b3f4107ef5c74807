from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sparse_encoder import losses as oracle
from torch import Tensor

from raybert.losses import sparse_forms
from raybert.losses.loss import LossInputs

COLUMNS = {
    "SparseMultipleNegativesRankingLoss": 3,
    "SparseMarginMSELoss": 3,
    "SparseDistillKLDivLoss": 3,
    "SparseTripletLoss": 3,
    "SparseCoSENTLoss": 2,
    "SparseAnglELoss": 2,
    "SparseCosineSimilarityLoss": 2,
    "SparseMSELoss": 1,
}


@pytest.mark.parametrize("name", COLUMNS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_defaults_equal_the_oracle(
    name: str,
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = [column.relu() for column in draw_columns(data, COLUMNS[name])]
    rows, width = columns[0].shape
    shape = {1: (rows, width), 2: (rows,), 3: (rows, 2)}[COLUMNS[name]]
    labels = torch.rand(shape, generator=torch.Generator().manual_seed(5)).double()
    ours, theirs = getattr(sparse_forms, name)(), getattr(oracle, name)(column_model())
    teacher: Any = [labels] if name == "SparseMSELoss" else labels
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors), labels),
        lambda *tensors: theirs.compute_loss_from_embeddings(list(tensors), teacher),
        columns,
    )
