from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util import semantic_search

from raybert.errors import InputError
from raybert.vectors import SIMILARITIES, TopK, best, blocks_of, exact_topk
from raybert.vectors.topk import MISSING


def brute_force(queries: Any, corpus: Any, k: int, name: str) -> tuple[list[Any], list[Any]]:
    """Sort every score in Python by (-score, order)."""
    scores = SIMILARITIES[name].matrix(queries, corpus).numpy()
    lists = [sorted((-s, i) for i, s in enumerate(row))[:k] for row in scores.tolist()]
    return [[i for _, i in row] for row in lists], [[-s for s, _ in row] for row in lists]


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 40),
    cut=st.integers(1, 40),
    k=st.integers(1, 12),
)
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("name", SIMILARITIES)
def test_equals_brute_force_however_the_corpus_is_cut(
    name: str, seed: int, rows: int, cut: int, k: int
) -> None:
    draw = np.random.default_rng(seed)
    # rows of length exactly 1 or 0: products are exact in float32, and many of them tie
    kinds = np.concatenate([np.eye(4), -np.eye(4), np.zeros((1, 4)), np.full((1, 4), 0.5)])
    corpus = kinds.astype(np.float32)[draw.integers(0, len(kinds), rows)]
    queries = kinds.astype(np.float32)[draw.integers(0, len(kinds), 4)]
    found = exact_topk(queries, blocks_of(corpus, rows=cut), k, similarity=name)
    orders, scores = brute_force(queries, corpus, k, name)
    for got, expected in zip(found.orders.tolist(), orders, strict=True):
        assert got == expected + [MISSING] * (k - len(expected))
    for row, expected_scores in zip(found.scores, scores, strict=True):
        np.testing.assert_allclose(row[: len(expected_scores)], expected_scores, atol=1e-6)


def test_cutting_changes_no_bit_of_a_score() -> None:
    draw = np.random.default_rng(5)
    corpus = draw.standard_normal((9000, 64)).astype(np.float32)
    queries = draw.standard_normal((300, 64)).astype(np.float32)
    whole = exact_topk(queries, blocks_of(corpus), 10)
    for rows in (777, 4096, 8999):
        cut = exact_topk(queries, blocks_of(corpus, rows=rows), 10)
        np.testing.assert_array_equal(cut.orders, whole.orders)
        np.testing.assert_array_equal(cut.scores, whole.scores)
    one = exact_topk(queries[7:8], blocks_of(corpus), 10)
    np.testing.assert_array_equal(one.scores[0], whole.scores[7])


def test_equals_the_oracles_semantic_search_where_nothing_ties() -> None:
    draw = np.random.default_rng(9)
    corpus = draw.standard_normal((500, 32)).astype(np.float32)
    queries = draw.standard_normal((20, 32)).astype(np.float32)
    expected = semantic_search(torch.from_numpy(queries), torch.from_numpy(corpus), top_k=7)
    found = exact_topk(queries, blocks_of(corpus), 7)
    assert found.orders.tolist() == [[hit["corpus_id"] for hit in hits] for hits in expected]
    np.testing.assert_allclose(
        found.scores, [[hit["score"] for hit in hits] for hits in expected], atol=1e-6
    )


def test_sparse_rows_are_found_as_their_dense_form() -> None:
    draw = torch.Generator().manual_seed(0)
    corpus = torch.relu(torch.randn(9000, 30, generator=draw) - 1.5)
    queries = torch.relu(torch.randn(300, 30, generator=draw) - 1)
    orders = np.arange(9000, dtype=np.int64)
    dense = exact_topk(queries, [(corpus, orders)], 5, similarity="dot")
    sparse = exact_topk(
        queries.to_sparse_coo(),  # type: ignore[no-untyped-call]
        [(corpus.to_sparse_coo(), orders)],  # type: ignore[no-untyped-call]
        5,
        similarity="dot",
    )
    np.testing.assert_allclose(sparse.scores, dense.scores, atol=1e-5)
    assert (sparse.orders == dense.orders).mean() > 0.99


def test_ties_go_to_the_smaller_order_even_at_the_last_place() -> None:
    corpus = np.ones((100, 4), dtype=np.float32)
    orders = np.arange(100, dtype=np.int64)[::-1].copy()
    found = exact_topk(corpus[:1], [(corpus, orders)], 5)
    assert found.orders.tolist() == [[0, 1, 2, 3, 4]]


def test_merging_is_the_same_in_any_order() -> None:
    left = TopK(np.array([[3, 1]], "f4"), np.array([[5, 2]]))
    right = TopK(np.array([[3, 2]], "f4"), np.array([[4, 9]]))
    for merged in (left.merge(right), right.merge(left)):
        assert merged.orders.tolist() == [[4, 5]]
        assert merged.scores.tolist() == [[3, 3]]


def test_missing_places_sort_last() -> None:
    found = best(np.array([[-np.inf, -1]], "f4"), np.array([[MISSING, 3]]), 2)
    assert found.orders.tolist() == [[3, MISSING]]


def test_no_queries_and_no_blocks() -> None:
    corpus = np.ones((3, 2), dtype=np.float32)
    assert exact_topk(np.zeros((0, 2), "f4"), blocks_of(corpus), 2).orders.shape == (0, 2)
    assert exact_topk(corpus, [], 2).orders.tolist() == [[MISSING, MISSING]] * 3


@pytest.mark.parametrize(
    ("queries", "corpus", "k", "says"),
    [
        (np.ones((1, 2)), np.ones((3, 2)), 0, "at least 1"),
        (np.ones((1, 3)), np.ones((3, 2)), 1, "wide"),
        (np.full((1, 2), np.nan), np.ones((3, 2)), 1, "NaN"),
    ],
)
def test_faults_are_refused(queries: Any, corpus: Any, k: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        exact_topk(queries, blocks_of(corpus), k)
