from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from raybert.evaluation.ties import tied_average_precision, tied_ndcg, tied_reciprocal_rank

scored = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, -1.0])), min_size=2, max_size=15
).filter(lambda rows: any(flag for flag, _ in rows))


@given(rows=scored, k=st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_equals_scikit_learn_with_ties(rows: list[tuple[bool, float]], k: int) -> None:
    flags, scores = (np.array(column) for column in zip(*rows, strict=True))
    assert tied_average_precision(flags, scores) == pytest.approx(
        average_precision_score(flags, scores)
    )
    assert tied_ndcg(flags, scores, k) == pytest.approx(ndcg_score([flags], [scores], k=k))


@given(rows=scored, seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_input_is_no_matter(rows: list[tuple[bool, float]], seed: int) -> None:
    flags, scores = (np.array(column) for column in zip(*rows, strict=True))
    order = np.random.default_rng(seed).permutation(len(rows))
    for metric in (tied_average_precision, lambda f, s: tied_reciprocal_rank(f, s, 10)):
        shuffled: Any = metric(flags[order], scores[order])
        assert shuffled == pytest.approx(metric(flags, scores))


def test_all_zero_scores_earn_no_first_place() -> None:
    flags, scores = np.array([True] + [False] * 99), np.zeros(100)
    assert tied_reciprocal_rank(flags, scores, 10) == 0
    assert tied_reciprocal_rank(flags, scores, 100) == 0.01
    assert tied_average_precision(flags, scores) == 0.01
    assert tied_ndcg(flags, scores, 10) < 0.05


def test_nothing_relevant_is_zero() -> None:
    flags, scores = np.array([False, False]), np.array([1.0, 0.0])
    assert tied_average_precision(flags, scores) == 0
    assert tied_reciprocal_rank(flags, scores, 2) == 0
    assert tied_ndcg(flags, scores, 2) == 0
