"""Paraphrases: the most similar pairs of rows in one set, exact over the whole set.

Every pair of tiles is multiplied once and read both ways. What is held are the K best of each row
so far, less those that can no longer be among the `max_pairs` best of all, so memory is bounded by
`max_pairs` and not by the square of the rows. Shapes: N rows, D width, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raybert.errors import InputError
from raybert.mining.positives import Rows
from raybert.vectors import TopPairs
from raybert.vectors.nearest import CORPUS_TILE, Matrix, falling, places_in_row, prepared, products
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
    held = _Held(len(rows), top_k, max_pairs, -np.inf if threshold is None else threshold)
    for left, right in _tiles(len(rows)):
        held.compare(rows, left, right)
    return held.pairs()


class _Held:
    """Directed pairs (row, neighbour, score) that may still count.

    `floor` [N] is the score a neighbour of a row must reach; `least` the score any pair must.
    """

    def __init__(self, rows: int, k: int, max_pairs: int, threshold: float) -> None:
        self._rows, self._k, self._max_pairs = rows, k, max_pairs
        self._least = np.float32(threshold)
        self._floor = np.full(rows, self._least, np.float32)
        self._parts: list[tuple[Rows, Rows, Scores]] = []
        self._held = self._settled = 0

    def compare(self, rows: Matrix, left: int, right: int) -> None:
        """Multiply two tiles and keep what may count."""
        scores = products(rows[left : left + CORPUS_TILE], rows[right : right + CORPUS_TILE])
        if left == right:
            scores.fill_diagonal_(-np.inf)
        self._take(scores, left, right)
        if left != right:
            self._take(scores, right, left, turned=True)
        if self._held > max(_HELD, 2 * self._settled):
            self._settle()

    def pairs(self) -> TopPairs:
        """Return the pairs, each once, best first."""
        self._settle()
        rows, others, scores = self._parts[0]
        left, right = np.minimum(rows, others), np.maximum(rows, others)
        order = np.lexsort((right, left, -scores))
        left, right, scores = left[order], right[order], scores[order]
        # a pair found from both ends has one score, so its two entries stand side by side
        again = (np.diff(left, prepend=-1) == 0) & (np.diff(right, prepend=-1) == 0)
        kept = np.flatnonzero(~again)[: self._max_pairs]
        return TopPairs(scores[kept], left[kept], right[kept])

    def _take(self, scores: Tensor, start: int, other: int, *, turned: bool = False) -> None:
        """Keep neighbours of the rows of one tile; `turned` reads the product by its columns."""
        axis = int(turned)
        floor = torch.from_numpy(self._floor[start : start + scores.shape[axis]])
        places = _reached(scores, floor, axis)
        if len(places) > 2 * self._k * len(floor):
            enough = min(self._k, scores.shape[1 - axis])
            tighter = scores.topk(enough, dim=1 - axis).values.select(1 - axis, -1)
            places = _reached(scores, torch.maximum(floor, tighter), axis)
        tall, wide = np.divmod(places, scores.shape[1])
        rows, columns = (wide, tall) if turned else (tall, wide)
        found = scores.numpy()[tall, wide]
        real = ~np.isneginf(found)
        self._parts.append((rows[real] + start, columns[real] + other, found[real]))
        self._held += int(real.sum())

    def _settle(self) -> None:
        if not self._parts:
            self._parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
        rows, others, scores = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        order = _by_row(rows, others, scores)
        rows, others, scores = rows[order], others[order], scores[order]
        kept = places_in_row(rows, self._rows) < self._k
        rows, others, scores = rows[kept], others[kept], scores[kept]
        last = np.cumsum(np.bincount(rows, minlength=self._rows))
        full = np.diff(last, prepend=0) == self._k
        self._floor[full] = scores[last[full] - 1]
        # a pair stands here at most twice, and entries of this score or more only grow in number
        surplus = 2 * self._max_pairs
        if len(scores) > surplus:
            self._least = np.partition(scores, len(scores) - surplus)[len(scores) - surplus]
            np.maximum(self._floor, self._least, out=self._floor)
            strong = scores >= self._least
            rows, others, scores = rows[strong], others[strong], scores[strong]
        self._parts, self._held = [(rows, others, scores)], len(rows)
        self._settled = len(rows)


def _reached(scores: Tensor, floor: Tensor, axis: int) -> Rows:
    """Return the flat places of scores that reach the floor of their row or column."""
    return np.flatnonzero((scores >= (floor[None] if axis else floor[:, None])).numpy())


def _by_row(rows: Rows, others: Rows, scores: Scores) -> Rows:
    """Return the order by row, falling score, then neighbour."""
    first = np.argsort(others, kind="stable")
    return np.asarray(
        first[np.argsort((rows[first] << 32) + falling(scores[first]), kind="stable")]
    )


def _tiles(rows: int) -> Iterator[tuple[int, int]]:
    """Yield every pair of tiles once, so that each row soon has neighbours to hold others to."""
    count = -(-rows // CORPUS_TILE)
    for apart in range(count // 2 + 1):
        for tile in range(count):
            if 2 * apart == count and tile >= apart:
                break
            yield tile * CORPUS_TILE, (tile + apart) % count * CORPUS_TILE
