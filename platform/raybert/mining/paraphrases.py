"""Paraphrases: the most similar pairs of rows in one set, exact over the whole set.

Every pair of tiles is compared once and read both ways. What is held are the K best of each row
so far, less those that can no longer be among the `max_pairs` best of all, so memory is bounded by
`max_pairs` and not by the square of the rows. Shapes: N rows, D width, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError
from raybert.mining.positives import Rows
from raybert.vectors import TopPairs
from raybert.vectors.bounds import Bounds, Cells, reached
from raybert.vectors.nearest import (
    CORPUS_TILE,
    Bounded,
    falling,
    first_floor,
    in_threads,
    places_in_row,
    prepared,
    ranking,
    sorted_by,
)
from raybert.vectors.topk import Scores

_HELD = 1 << 21
"""Directed pairs held at least before weak ones are dropped."""


def mine_paraphrases(
    vectors: npt.NDArray[Any],
    *,
    top_k: int = 100,
    max_pairs: int = 500_000,
    threshold: float | None = None,
) -> TopPairs:
    """Find the `max_pairs` most similar pairs among those in which one row is near the other.

    Args:
        vectors: [N, D].
        top_k: a pair counts if either row is among the other's `top_k` nearest.
        max_pairs: pairs to keep.
        threshold: the least cosine of a pair; any if None.

    Returns:
        Pairs, best first, left < right; equal scores by (left, right).

    Raises:
        InputError: a bound below 1, NaN or infinite values.
    """
    for name, bound in (("top_k", top_k), ("max_pairs", max_pairs)):
        if bound < 1:
            raise InputError(f"{name} {bound}: at least 1 is allowed")
    rows = prepared(vectors, "cosine")
    least = -np.inf if threshold is None else threshold
    bounds = Bounds.fit(
        rows, rows, min(top_k, -(-2 * max_pairs // max(len(rows), 1))), len(rows), least
    )
    held = _Held(Bounded.of(rows, Cells.of(rows).sorted(rows), bounds), top_k, max_pairs, least)
    for both in in_threads(held.compare, _tiles(len(rows))):
        held.take(both)
    return held.pairs()


class Found(NamedTuple):
    """Directed pairs: the row's place in the order by cell, the neighbour's row, the score."""

    places: Rows
    others: Rows
    scores: Scores


class _Held:
    """Directed pairs that may still count.

    `floor` [N] is the score a neighbour must reach, by place; `least` the score any pair must.
    """

    def __init__(self, sides: Bounded, k: int, max_pairs: int, threshold: float) -> None:
        self._sides, self._k, self._max_pairs = sides, k, max_pairs
        self._floor = np.full(len(sides.at), threshold, np.float32)
        self._parts: list[Found] = []
        self._held = self._settled = 0

    def compare(self, tiles: tuple[int, int]) -> Found:
        """Return what of two tiles may count, both ways; floors of the time are good enough."""
        left, right = (self._sides.tile(start, CORPUS_TILE) for start in tiles)
        own, other = (self._floor[start : start + CORPUS_TILE] for start in tiles)
        if tiles[0] == tiles[1]:
            np.maximum(own, first_floor(left, left, self._k + 1), out=own)
        rows, columns = reached(left.narrow, right.narrow, own, other)
        if tiles[0] == tiles[1]:
            once = rows < columns
            rows, columns = rows[once], columns[once]
        scores = left.scores(right, rows, columns)
        ahead, back = scores >= own[rows], scores >= other[columns]
        return Found(
            np.concatenate([rows[ahead] + tiles[0], columns[back] + tiles[1]]),
            np.concatenate([right.at[columns[ahead]], left.at[rows[back]]]),
            np.concatenate([scores[ahead], scores[back]]),
        )

    def take(self, found: Found) -> None:
        """Hold pairs; now and then drop those that can no longer win."""
        self._parts.append(found)
        self._held += len(found.scores)
        if self._held > max(_HELD, 2 * self._settled):
            self._settle()

    def pairs(self) -> TopPairs:
        """Return the pairs, each once, best first."""
        places, others, scores = self._settle()
        return distinct_pairs(self._sides.at[places], others, scores, self._max_pairs)

    def _settle(self) -> Found:
        empty = Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        places, others, scores = map(np.concatenate, zip(empty, *self._parts, strict=True))
        order = ranking(places, others, scores)
        order = order[places_in_row(places[order], len(self._floor)) < self._k]
        places, others, scores = places[order], others[order], scores[order]
        last = np.cumsum(np.bincount(places, minlength=len(self._floor)))
        full = np.diff(last, prepend=0) == self._k
        self._floor[full] = np.maximum(self._floor[full], scores[last[full] - 1])
        # a pair stands here at most twice, and entries of this score or more only grow in number
        surplus = 2 * self._max_pairs
        if len(scores) > surplus:
            least = np.partition(scores, len(scores) - surplus)[len(scores) - surplus]
            np.maximum(self._floor, least, out=self._floor)
            strong = scores >= least
            places, others, scores = places[strong], others[strong], scores[strong]
        self._parts, self._held = [Found(places, others, scores)], len(places)
        self._settled = len(places)
        return self._parts[0]


def distinct_pairs(rows: Rows, others: Rows, scores: Scores, max_pairs: int) -> TopPairs:
    """Return the best of directed pairs, each once: by falling score, then (left, right)."""
    left, right = np.minimum(rows, others), np.maximum(rows, others)
    # a pair found from both ends stands here twice, with one score
    pairs = (left << 32) + right
    order = np.argsort(pairs)
    once = order[np.diff(pairs[order], prepend=-1) != 0]
    best = once[sorted_by(falling(scores[once]), pairs[once])[:max_pairs]]
    return TopPairs(scores[best], left[best], right[best])


def _tiles(rows: int) -> Iterator[tuple[int, int]]:
    """Yield every pair of tiles once, so that each row soon has neighbours to hold others to."""
    count = -(-rows // CORPUS_TILE)
    for apart in range(count // 2 + 1):
        for tile in range(count):
            if 2 * apart == count and tile >= apart:
                break
            yield tile * CORPUS_TILE, (tile + apart) % count * CORPUS_TILE
