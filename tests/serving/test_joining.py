from __future__ import annotations

import pytest

from raybert.records import Hit
from raybert.serving.faults import RequestError
from raybert.serving.joining import join_legs


def hits(**scores: float) -> list[Hit]:
    return [Hit(name, score) for name, score in scores.items()]


def test_one_leg_keeps_its_scores() -> None:
    only = hits(a=0.9, b=0.1)
    joined = join_legs({"dense": only}, "rrf")
    assert [hit.hit for hit in joined] == only
    assert [hit.places["dense"].rank for hit in joined] == [1, 2]


def test_reciprocal_ranks_with_k_60() -> None:
    joined = join_legs({"dense": hits(a=0.9, b=0.8), "sparse": hits(b=7.0, c=5.0)}, "rrf")
    assert [hit.id for hit in joined] == ["b", "a", "c"]
    assert [hit.score for hit in joined] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])


def test_weighted_scales_each_leg_to_one() -> None:
    joined = join_legs({"dense": hits(a=0.9, b=0.5, c=0.1), "sparse": hits(b=30.0)}, "weighted")
    assert [hit.id for hit in joined] == ["b", "a", "c"]
    assert [hit.score for hit in joined] == pytest.approx([1.5, 1.0, 0.0])


def test_ties_go_by_id() -> None:
    joined = join_legs({"dense": hits(b=1.0, a=0.5), "sparse": hits(a=1.0, b=0.5)}, "rrf")
    assert [hit.id for hit in joined] == ["a", "b"]


def test_an_empty_leg_adds_nothing() -> None:
    joined = join_legs({"dense": hits(a=1.0), "sparse": []}, "weighted")
    assert [hit.id for hit in joined] == ["a"]


def test_an_unknown_fusion_is_refused() -> None:
    with pytest.raises(RequestError, match="allowed are rrf, weighted"):
        join_legs({"dense": hits(a=1.0)}, "magic")
