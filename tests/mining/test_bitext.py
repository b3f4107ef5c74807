from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raybert.errors import InputError
from raybert.mining import Neighbours, best_threshold, mine_bitext
from raybert.mining.bitext import Bitext, margin_scores
from raybert.vectors.nearest import nearest, prepared

X = np.eye(3)
Y = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1]])


def pairs_of(found: Bitext) -> list[tuple[int, int]]:
    return list(zip(found.sources.tolist(), found.targets.tolist(), strict=True))


def test_hard_case_24() -> None:
    x, y = prepared(X, "cosine"), prepared(Y, "cosine")
    found = Neighbours(nearest(x, y, 2), nearest(y, x, 2))
    forward, _ = margin_scores(found, "ratio")
    matrix = np.zeros((3, 3))
    np.put_along_axis(matrix, found.forward.orders, forward, axis=1)
    assert matrix == pytest.approx(np.array([[1.4286, 1, 0], [0, 1.2, 0], [0, 0, 2]]), abs=5e-5)
    assert pairs_of(mine_bitext(X, Y, neighbours=2)) == [(2, 2), (0, 0), (1, 1)]


@pytest.mark.parametrize("margin", ["ratio", "distance", "absolute"])
@pytest.mark.parametrize("retrieval", ["forward", "backward", "intersection", "max"])
def test_every_way_is_what_brute_force_gives(margin: Any, retrieval: Any) -> None:
    rng = np.random.default_rng(5)
    sources = rng.normal(size=(40, 8))
    targets = np.concatenate(
        [sources[10:] + rng.normal(size=(30, 8)) * 0.5, rng.normal(size=(9, 8))]
    )
    found = mine_bitext(sources, targets, margin=margin, retrieval=retrieval, neighbours=4)
    assert pairs_of(found) == by_hand(sources, targets, margin, retrieval)


def by_hand(sources: Any, targets: Any, margin: str, retrieval: str) -> list[tuple[int, int]]:
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (sources, targets))
    cosines = x @ y.T
    near = np.argsort(-cosines, axis=1)[:, :4]
    near_back = np.argsort(-cosines.T, axis=1)[:, :4]
    mean = (
        np.take_along_axis(cosines, near, 1).mean(1)[:, None]
        + np.take_along_axis(cosines.T, near_back, 1).mean(1)[None]
    ) / 2
    scores = {"ratio": cosines / mean, "distance": cosines - mean, "absolute": cosines}[margin]
    forward = [(s, max(near[s], key=lambda t: scores[s, t])) for s in range(len(x))]
    backward = [(max(near_back[t], key=lambda s: scores[s, t]), t) for t in range(len(y))]
    candidates = {
        "forward": forward,
        "backward": backward,
        "intersection": [pair for pair in forward if pair in backward],
        "max": list({*forward, *backward}),
    }[retrieval]
    taken: list[tuple[int, int]] = []
    for source, target in sorted(candidates, key=lambda pair: -scores[pair]):
        if all(source != s and target != t for s, t in taken):
            taken.append((int(source), int(target)))
    return taken


def test_the_margin_outdoes_the_cosine_where_a_sentence_is_near_to_all() -> None:
    rng = np.random.default_rng(6)
    sources = rng.normal(size=(200, 16)) + 1.5
    targets = sources[:140] + rng.normal(size=(140, 16)) * 1.1
    hubs = np.full((12, 16), 1.5) + rng.normal(size=(12, 16)) * 0.05
    gold = {(row, row) for row in range(140)}
    f1 = {
        margin: best_threshold(
            mine_bitext(sources, np.concatenate([targets, hubs]), margin=margin), gold
        )[1]
        for margin in ("ratio", "distance", "absolute")
    }
    assert f1["ratio"] > f1["absolute"] + 0.01
    assert f1["distance"] > f1["absolute"] + 0.01


def test_the_best_threshold_lies_midway() -> None:
    pairs = Bitext(np.array([0.9, 0.8, 0.6, 0.5]), np.arange(4), np.array([0, 1, 5, 3]))
    threshold, f1, precision, recall = best_threshold(pairs, {(0, 0), (1, 1), (7, 7)})
    assert threshold == pytest.approx(0.7)
    assert (f1, precision, recall) == pytest.approx((0.8, 1.0, 2 / 3))
    assert pairs_of(pairs.above(threshold)) == [(0, 0), (1, 1)]
    assert best_threshold(pairs, {(9, 9)}) == (0.0, 0.0, 0.0, 0.0)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="margin 'sum': allowed are ratio, distance, absolute"):
        mine_bitext(X, Y, margin="sum")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="retrieval 'both': allowed"):
        mine_bitext(X, Y, retrieval="both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="targets has none"):
        mine_bitext(X, Y[:0])
    with pytest.raises(InputError, match="3 and 2 wide"):
        mine_bitext(X, Y[:, :2])
