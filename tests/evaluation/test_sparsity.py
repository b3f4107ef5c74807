from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SparseEncoder

from raybert.evaluation.sparsity import QueryCorpusStatistics, SparsityCount


def sparse(seed: int, rows: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    dense = torch.relu(torch.randn(rows, 20, generator=draw) - 0.5)
    return dense.to_sparse_coo()  # type: ignore[no-untyped-call, no-any-return]


@given(seed=st.integers(0, 999), cut=st.integers(1, 7))
@settings(max_examples=25, deadline=None)
def test_blocks_count_as_the_whole_and_as_the_oracle(seed: int, cut: int) -> None:
    whole = sparse(seed, 8)
    counted = SparsityCount()
    dense = whole.to_dense()
    for part in (dense[:cut], dense[cut:]):
        counted.add(part.to_sparse_coo())  # type: ignore[no-untyped-call]
    expected = SparseEncoder.sparsity(whole)
    assert counted.metrics() == pytest.approx(expected, abs=1e-6)


def test_products_are_those_of_all_pairs() -> None:
    queries, corpus = sparse(1, 5), sparse(2, 9)
    statistics = QueryCorpusStatistics(queries)
    statistics.add(corpus)
    active = (queries.to_dense() > 0).double() @ (corpus.to_dense() > 0).double().T
    assert statistics.metrics()["avg_flops"] == pytest.approx(float(active.mean()))


def test_a_stored_zero_is_not_active_and_dense_rows_count_nothing() -> None:
    stored = torch.sparse_coo_tensor(
        torch.tensor([[0, 0], [1, 2]]), torch.tensor([0.0, 3.0]), (1, 4), check_invariants=True
    )
    counted = SparsityCount()
    counted.add(stored)
    assert counted.metrics("query_") == {"query_active_dims": 1.0, "query_sparsity_ratio": 0.75}
    empty = SparsityCount()
    empty.add(np.ones((2, 3)))
    assert empty.metrics() == {}
