from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sparse_encoder.evaluation import (
    ReciprocalRankFusionEvaluator as Oracle,
)

from raybert.errors import InputError
from raybert.evaluation import ReciprocalRankFusionEvaluator


def sample(query: str, positive: list[str], documents: list[str]) -> dict[str, Any]:
    return {"query_id": query, "query": query, "positive": positive, "documents": documents}


@given(seed=st.integers(0, 99999), k=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(seed: int, k: int) -> None:
    """The oracle settles ties by first appearance, so texts are named in that order here."""
    draw = np.random.default_rng(seed)
    legs: tuple[list[Any], list[Any]] = ([], [])
    for number in range(3):
        rankings = [draw.permutation(10)[: int(draw.integers(2, 8))].tolist() for _ in legs]
        seen = list(dict.fromkeys([*rankings[0], *rankings[1], *range(10)]))
        positive = [f"d{seen.index(p)}" for p in draw.choice(10, int(draw.integers(1, 4)), False)]
        for leg, ranking in zip(legs, rankings, strict=True):
            leg.append(sample(f"q{number}", positive, [f"d{seen.index(p)}" for p in ranking]))
    theirs, ours = Oracle(*legs, at_k=k), ReciprocalRankFusionEvaluator(*legs, at_k=k)
    assert ours() == pytest.approx(theirs())
    assert ours.primary_metric == theirs.primary_metric


def test_published_numbers() -> None:
    dense = [sample("q", ["a"], ["b", "a"])]
    sparse = [sample("q", ["a"], ["a", "c"])]
    metrics = ReciprocalRankFusionEvaluator(dense, sparse, name="hybrid")()
    assert metrics["hybrid_dense_map"] == 0.5
    assert metrics["hybrid_sparse_map"] == 1.0
    assert metrics["hybrid_map"] == 1.0


def test_queries_may_come_in_any_order_but_must_be_the_same() -> None:
    one, two = sample("q1", ["a"], ["a"]), sample("q2", ["b"], ["b", "a"])
    evaluator = ReciprocalRankFusionEvaluator([one, two], [two, one])
    assert evaluator()["ndcg@10"] == 1
    with pytest.raises(InputError, match="the same queries, at least one; not so: \\['q2'\\]"):
        ReciprocalRankFusionEvaluator([one], [one, two])
