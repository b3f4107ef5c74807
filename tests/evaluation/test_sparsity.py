from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.evaluation import (
    SparseInformationRetrievalEvaluator as Oracle,
)
from sentence_transformers.util import dot_score

from raybert.evaluation import InformationRetrievalEvaluator
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


@given(seed=st.integers(0, 999), chunk=st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_a_sparse_retrieval_is_judged_as_the_oracle_judges_it(
    written_vectors: Callable[..., Any], seed: int, chunk: int
) -> None:
    draw = np.random.default_rng(seed)
    corpus = {f"d{number:02}": f"d{number:02}" for number in range(11)}
    queries = {f"q{number}": f"q{number}" for number in range(4)}
    table = {}
    for name in (*corpus, *queries):
        row = np.maximum(draw.standard_normal(16), 0).astype(np.float32)
        row[draw.integers(16)] = 1.0  # no row without any active dimension
        table[name] = row
    relevant = {query: set(draw.choice(list(corpus), 2).tolist()) for query in queries}
    encoder = written_vectors(table, sparse=True)
    encoder.sparsity = SparseEncoder.sparsity
    ours = InformationRetrievalEvaluator(queries, corpus, relevant, corpus_chunk_size=chunk)
    theirs = Oracle(
        queries,
        corpus,
        relevant,
        corpus_chunk_size=chunk,
        score_functions={"dot": dot_score},
        write_csv=False,
    )
    found, expected = ours(encoder), theirs(encoder)
    assert {"avg_flops", "query_active_dims", "corpus_sparsity_ratio"} <= set(expected) & set(found)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name
