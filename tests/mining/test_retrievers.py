from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raybert.errors import InputError
from raybert.mining import (
    NegativeRules,
    Positives,
    Texts,
    merge_retrieved,
    mine_hard_negatives,
    negatives_table,
)

LISTS = {
    "dense": np.array([[4, 2, 9], [0, 1, 2]]),
    "bm25": np.array([[2, 7, -1], [-1, -1, -1]]),
    "sparse": np.array([[7, 2, 5], [5, 0, 1]]),
}


def test_a_union_takes_the_best_of_each_in_turn() -> None:
    found = merge_retrieved(LISTS)
    assert found.names == ("dense", "bm25", "sparse")
    assert found.rows.tolist() == [[4, 2, 7, 9, 5], [0, 5, 1, 2, -1]]
    assert found.ranks[0].tolist() == [[1, 0, 0], [2, 1, 2], [0, 2, 1], [3, 0, 0], [0, 0, 3]]
    assert found.part(1, 2).ranks[0, 3].tolist() == [3, 0, 0]


def test_rrf_orders_by_the_sum_of_reciprocal_ranks() -> None:
    found = merge_retrieved(LISTS, "rrf")
    # 2: ranks 2, 1, 2; 7: 2 and 1; then 4 with a first place, 5 and 9 with a third
    assert found.rows[0].tolist() == [2, 7, 4, 5, 9]
    assert found.rows[1].tolist() == [0, 1, 5, 2, -1]


def test_bad_lists_are_refused() -> None:
    with pytest.raises(InputError, match="merge 'sum': allowed are union, rrf"):
        merge_retrieved(LISTS, "sum")
    with pytest.raises(InputError, match=r"retrievers of \[1, 2\] queries"):
        merge_retrieved({**LISTS, "short": np.zeros((1, 3), np.int64)})


def mined(**given: Any) -> Any:
    """Two queries over eight rows on a quarter circle; row 7 is far from both."""
    angles = np.array([0, 5, 10, 20, 30, 40, 50, 85]) * np.pi / 180
    corpus = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    positives = Positives.of(np.array([0, 1]), np.array([0, 6]), 2)
    return positives, mine_hard_negatives(corpus[[0, 6]], corpus, positives, **given)


def test_each_negative_knows_who_found_it() -> None:
    others = {"bm25": np.array([[7, 2, -1], [0, -1, -1]])}
    positives, found = mined(rules=NegativeRules(num_negatives=4), others=others)
    assert found.rows[0].tolist() == [7, 1, 2, 3]
    assert found.found_at[0].tolist() == [[0, 1], [2, 0], [3, 2], [4, 0]]
    assert found.scores[0, 0] == pytest.approx(np.cos(85 * np.pi / 180), abs=1e-6)
    names = Texts(list("abcdefgh"), list("abcdefgh"))
    table = negatives_table(found, positives, Texts(["q", "r"], ["q", "r"]), names)
    reasons = table["kept_because"].to_pylist()[:3]
    assert reasons == [
        "rank 2, found by bm25 1",
        "rank 3, found by dense 2",
        "rank 4, found by dense 3, bm25 2",
    ]


def test_rules_look_at_the_models_score_of_what_another_found() -> None:
    others = {"bm25": np.array([[7, 1, -1], [0, -1, -1]])}
    rules = NegativeRules(num_negatives=2, min_score=0.5, percent_of_positive=99)
    _, found = mined(rules=rules, others=others, merge="rrf")
    assert 7 not in found.rows[0]
    assert found.dropped["min_score"] >= 1
    assert found.rows[0].tolist() == [2, 3], "row 1 is too near to the positive"


def test_one_retriever_more_that_finds_nothing_changes_nothing() -> None:
    nothing = {"bm25": np.full((2, 3), -1)}
    _, alone = mined(rules=NegativeRules())
    _, both = mined(rules=NegativeRules(), others=nothing)
    assert (both.rows == alone.rows).all()
    assert (both.scores == alone.scores).all()
    assert alone.retrievers == ("dense",)
    assert (alone.found_at[:, :, 0] == alone.ranks).all()
