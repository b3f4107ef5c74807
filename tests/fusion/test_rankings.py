from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybert.errors import InputError
from raybert.fusion import NORMALIZATIONS, reciprocal_rank, weighted_scores
from raybert.records import Hit

DENSE = [Hit("a", 0.9), Hit("b", 0.7), Hit("c", 0.5)]
SPARSE = [Hit("c", 12.0), Hit("d", 8.0)]
legs_of_ids = st.dictionaries(
    st.sampled_from(["dense", "sparse", "bm25"]),
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    min_size=1,
)


def test_reciprocal_rank_is_the_published_sum() -> None:
    fused = reciprocal_rank({"dense": DENSE, "sparse": SPARSE})
    assert [hit.id for hit in fused] == ["c", "a", "b", "d"]
    assert fused[0].score == pytest.approx(1 / 63 + 1 / 61)
    assert fused[1].score == pytest.approx(1 / 61)


def test_answers_keep_rank_and_score_of_each_leg() -> None:
    best = reciprocal_rank({"dense": DENSE, "sparse": SPARSE})[0]
    assert {leg: (place.rank, place.score) for leg, place in best.places.items()} == {
        "dense": (3, 0.5),
        "sparse": (1, 12.0),
    }
    assert best.hit == Hit("c", best.score)


def test_weights_shift_the_order_and_zero_takes_a_leg_out() -> None:
    legs = {"dense": DENSE, "sparse": SPARSE}
    heavy = reciprocal_rank(legs, weights={"sparse": 100})
    assert [hit.id for hit in heavy][:2] == ["c", "d"]
    without = reciprocal_rank(legs, weights={"sparse": 0})
    assert [hit.id for hit in without][:3] == ["a", "b", "c"]


def test_small_k_rewards_first_places() -> None:
    legs = {"one": [Hit("a", 1), Hit("b", 1)], "two": [Hit("c", 1), Hit("b", 1)]}
    assert reciprocal_rank(legs, k=60)[0].id == "b"
    assert reciprocal_rank(legs, k=0, top_k=1)[0].id == "a"  # three tie at 1: by id


def test_minmax_scores_are_those_of_hand() -> None:
    dense = [Hit("a", 3), Hit("b", 2), Hit("c", 1)]
    fused = weighted_scores({"dense": dense, "sparse": SPARSE}, weights={"sparse": 0.5})
    scores = {hit.id: hit.score for hit in fused}
    assert scores == pytest.approx({"a": 1.0, "b": 0.5, "c": 0.5, "d": 0.0})
    assert [hit.id for hit in fused] == ["a", "b", "c", "d"]


def test_three_sigma_puts_the_mean_in_the_middle() -> None:
    fused = weighted_scores({"one": DENSE}, normalization="three_sigma")
    assert fused[1].score == pytest.approx(0.5)
    assert 0 < fused[2].score < fused[0].score < 1


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_legs_with_equal_scores_or_none_are_no_fault(normalization: str) -> None:
    legs = {"one": [Hit("b", 3.0), Hit("a", 3.0)], "none": []}
    fused = weighted_scores(legs, normalization=normalization)
    assert [hit.id for hit in fused] == ["a", "b"]


@given(ids=legs_of_ids, seed=st.integers(0, 99))
def test_the_order_of_legs_is_no_matter_and_nothing_is_lost(
    ids: dict[str, list[str]], seed: int
) -> None:
    legs = {leg: [Hit(i, -rank) for rank, i in enumerate(found)] for leg, found in ids.items()}
    shuffled = list(legs)
    random.Random(seed).shuffle(shuffled)
    first = reciprocal_rank(legs)
    second = reciprocal_rank({leg: legs[leg] for leg in shuffled})
    assert {hit.id for hit in first} == {i for found in ids.values() for i in found}
    assert [(hit.id, hit.score) for hit in second] == [(hit.id, hit.score) for hit in first]
    assert [hit.score for hit in first] == sorted((hit.score for hit in first), reverse=True)


def test_faults_are_refused() -> None:
    legs = {"dense": DENSE}
    with pytest.raises(InputError, match="unknown leg 'bm25'; legs are dense"):
        reciprocal_rank(legs, weights={"bm25": 1})
    with pytest.raises(InputError, match="at least 0"):
        reciprocal_rank(legs, weights={"dense": -1})
    with pytest.raises(InputError, match="at least 0"):
        reciprocal_rank(legs, k=-1)
    with pytest.raises(InputError, match="minmax, three_sigma, none"):
        weighted_scores(legs, normalization="softmax")
    with pytest.raises(InputError, match="ranks 'a' twice"):
        reciprocal_rank({"dense": [Hit("a", 1), Hit("a", 1)]})
