"""Nearest neighbours in bulk: many queries against many rows, exact, below a full product's cost.

For every query the score is kept that a candidate must reach. A tile of pairs is first bounded
(`Bounds`); only pairs whose bound reaches it are multiplied in full. A pair's score is summed for
itself and equal scores are ordered by `order`, so a result does not depend on how queries and
corpus are cut, or on threads. Shapes: Q queries, N rows, D width, K results, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, TypeVar

import faiss
import numpy as np
import numpy.typing as npt
import torch

from raybert.errors import InputError
from raybert.vectors.bounds import Bounds, Cells, Matrix, Narrow, Tiles, reached
from raybert.vectors.similarity import pick_similarity
from raybert.vectors.topk import MISSING, Orders, Scores, TopK, exact_topk

Rows: TypeAlias = npt.NDArray[np.int64]
T = TypeVar("T")
R = TypeVar("R")
_faiss: Any = faiss

QUERY_TILE = 1024
CORPUS_TILE = 1024
_BLOCK = 64 * CORPUS_TILE
PRODUCTS = ("cosine", "dot")
_PAIRS = 2048
_UNIT = 4e-7
"""How far from 1 a length may be that rounding explains."""


class Bounded(NamedTuple):
    """Some rows of a matrix [N, D]: the rows `at` [M], and what bounds their products."""

    rows: Matrix
    at: Rows
    narrow: Narrow

    @classmethod
    def of(cls, rows: Matrix, at: Rows, bounds: Bounds) -> Bounded:
        """Bound the rows `at`."""
        return cls(rows, at, bounds.of(rows, at))

    def tile(self, start: int, count: int) -> Bounded:
        """Return `count` of them from `start` on."""
        return Bounded(self.rows, self.at[start : start + count], self.narrow.part(start, count))

    def scores(self, other: Bounded, rows: Rows, columns: Rows) -> Scores:
        """Return the products of pairs, each by itself."""
        return pair_scores(self.rows, other.rows, self.at[rows], other.at[columns])


def prepared(vectors: npt.NDArray[Any], similarity: str, where: str = "vectors") -> Matrix:
    """Return [N, D] float32 rows ready for `nearest`: scaled to length 1 for the cosine.

    Each row is scaled by itself; a zero row stays zero, and a row of length 1 as it is. Where
    nothing is to be changed the vectors themselves are returned.

    Raises:
        InputError: not two dimensions, NaN or infinite values, unknown similarity.
    """
    pick_similarity(similarity)
    if vectors.ndim != 2:
        raise InputError(f"{where} of shape {vectors.shape}: rows of one width are expected")
    rows = np.require(vectors, np.float32, ["C", "W"])
    for start in range(0, len(rows), _PAIRS):
        part = rows[start : start + _PAIRS]
        lengths = np.sqrt(np.einsum("nd,nd->n", part, part, dtype=np.float64))
        if not np.isfinite(lengths).all():
            bad = start + int(np.flatnonzero(~np.isfinite(lengths))[0])
            raise InputError(f"{where}: row {bad} holds NaN or infinite values")
        wrong = np.flatnonzero(np.abs(lengths - 1) > _UNIT)
        if similarity == "cosine" and len(wrong):
            if np.may_share_memory(rows, vectors):
                rows = rows.copy()
            scale = np.maximum(lengths[wrong, None], 1e-12)
            rows[start + wrong] = (part[wrong] / scale).astype(np.float32)
    return rows


def nearest(
    queries: Matrix,
    corpus: Matrix,
    k: int,
    *,
    orders: Orders | None = None,
    similarity: str = "cosine",
    least: float = -np.inf,
    bounds: Bounds | None = None,
    found: TopK | None = None,
) -> TopK:
    """Find the `k` most similar rows of the corpus for every query, by comparing with all.

    Uses as many threads as torch has. Memory beside arguments and result is some tens of megabytes.

    Args:
        queries: [Q, D], as `prepared` returns them.
        corpus: [N, D], likewise.
        k: results a query; filled with `MISSING` where fewer rows reach `least`.
        orders: [N], by which equal scores are ordered; the row if None.
        similarity: one of `SIMILARITIES`.
        least: the score of a neighbour at least.
        bounds: how tiles are bounded; fitted here if None.
        found: the best among other rows of the corpus, to go on from.

    Raises:
        InputError: k below 1, another width.
    """
    if k < 1:
        raise InputError(f"top-k {k}: at least 1 is allowed")
    if queries.shape[1] != corpus.shape[1]:
        raise InputError(f"vectors {queries.shape[1]} and {corpus.shape[1]} wide: one width needed")
    known = np.arange(len(corpus), dtype=np.int64) if orders is None else orders
    start = TopK.empty(len(queries), k) if found is None else found
    found = TopK(start.scores.copy(), start.orders.copy())
    if similarity not in PRODUCTS:
        other = exact_topk(queries, [(corpus, known)], k, similarity=similarity)
        return _above(found.merge(other), least)
    bounds = bounds or Bounds.fit(queries, corpus, k, len(corpus), least)
    for first in range(0, len(corpus), _BLOCK):
        block = slice(first, first + _BLOCK)
        _search_block(queries, corpus[block], known[block], bounds, found, least)
    return found


def pair_scores(
    left: Matrix, right: Matrix, rows: Rows, columns: Rows, similarity: str = "cosine"
) -> Scores:
    """Return the similarity of `left[rows[i]]` and `right[columns[i]]`, [P], each by itself.

    A pair's score is the same to the last bit wherever it is asked for, and from either side;
    `left` and `right` are as `prepared` returns them.
    """
    scores = np.empty(len(rows), np.float32)
    if similarity in PRODUCTS:
        at, to = (np.ascontiguousarray(side, np.int64) for side in (rows, columns))
        pointers = (_faiss.swig_ptr(x) for x in (left, at, right, to, scores))
        _faiss.pairwise_indexed_inner_product(left.shape[1], len(rows), *pointers)
        return scores
    pairwise = pick_similarity(similarity).pairwise
    for start in range(0, len(rows), _PAIRS):
        part = slice(start, start + _PAIRS)
        scores[part] = pairwise(left[rows[part]], right[columns[part]]).numpy()
    return scores


class Candidates:
    """Pairs (row, order, score) of a tile of queries that may still be among the K best.

    `floor` [Q] is what a new candidate must reach.

    Args:
        found: the lists of these queries, to start from and to write to.
        least: the score of any.
    """

    def __init__(self, found: TopK, least: float) -> None:
        self._scores, self._orders = found.scores, found.orders
        self._queries, self.k = self._scores.shape
        self.floor = np.maximum(self._scores[:, -1], np.float32(least))
        rows, places = np.nonzero(self._orders != MISSING)
        self._parts = [(rows, self._orders[rows, places], self._scores[rows, places])]
        self._held = self._settled = len(rows)

    def add(self, rows: Rows, orders: Orders, scores: Scores) -> None:
        """Take candidates; now and then drop those that can no longer win."""
        self._parts.append((rows, orders, scores))
        self._held += len(rows)
        if self._held > 1.2 * self._settled + self._queries:
            self.settle()

    def settle(self) -> None:
        """Write the K best so far, raise the floor."""
        rows, orders, scores = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        order = ranking(rows, orders, scores)
        places = places_in_row(rows[order], self._queries)
        order, places = order[places < self.k], places[places < self.k]
        rows, orders, scores = rows[order], orders[order], scores[order]
        self._scores[rows, places], self._orders[rows, places] = scores, orders
        np.maximum(self.floor, self._scores[:, -1], out=self.floor)
        self._parts, self._held = [(rows, orders, scores)], len(rows)
        self._settled = len(rows)


def reaching(left: Bounded, right: Bounded, floor: Scores) -> tuple[Rows, Rows, Scores]:
    """Return the pairs of two tiles, (row, column, score), that reach the floor of their row."""
    rows, columns = reached(left.narrow, right.narrow, floor)
    scores = left.scores(right, rows, columns)
    kept = np.flatnonzero(scores >= floor[rows])
    return rows[kept], columns[kept], scores[kept]


def first_floor(left: Bounded, right: Bounded, k: int) -> Scores:
    """Return for every row of a tile a score that `k` rows of the other reach, else -inf."""
    if len(right.at) < k:
        return np.full(len(left.at), -np.inf, np.float32)
    over = left.narrow.products(right.narrow).float()
    columns = over.topk(k, dim=1).indices.numpy().reshape(-1)
    rows = np.repeat(np.arange(len(left.at), dtype=np.int64), k)
    scores = left.scores(right, rows, columns)
    return np.asarray(scores.reshape(-1, k).min(axis=1))


def ranking(rows: Rows, orders: Orders, scores: Scores) -> Rows:
    """Return the order of pairs by row, falling score, then `orders`."""
    return sorted_by((rows << 32) + falling(scores), orders)


def sorted_by(keys: Rows, then: Rows) -> Rows:
    """Return the order by `keys`, equal ones by `then`; quick where few are equal."""
    order = np.argsort(keys)
    equal = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(equal):
        tied = np.union1d(equal, equal + 1)
        own = order[tied]
        order[tied] = own[np.lexsort((then[own], keys[own]))]
    return order


def falling(scores: Scores) -> Rows:
    """Return numbers from 0 to 2^32 that rise as the scores fall."""
    bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)
    rising = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return np.asarray((1 << 31) - 1 - rising)


def places_in_row(rows: Rows, count: int) -> Rows:
    """Return each entry's place within its row, from 0, for entries that stand row by row."""
    counts = np.bincount(rows, minlength=count)
    return np.asarray(np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows])


def in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Apply work to items in torch's number of threads; yields results in order.

    Only a few results wait at a time. Within the work every operation has one thread.
    """
    threads = torch.get_num_threads()
    waiting = iter(items)
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: _faiss.omp_set_num_threads(1)) as pool:
            running = [pool.submit(work, item) for item in islice(waiting, 2 * threads)]
            while running:
                result = running.pop(0).result()
                running += [pool.submit(work, item) for item in islice(waiting, 1)]
                yield result
    finally:
        torch.set_num_threads(threads)


def _search_block(
    queries: Matrix, corpus: Matrix, orders: Orders, bounds: Bounds, found: TopK, least: float
) -> None:
    """Bring all that a block of the corpus holds into the lists of all queries."""
    cells = Cells.of(corpus)
    right = Bounded.of(corpus, cells.sorted(corpus), bounds)
    tiles = Tiles(cells, right.rows, right.at, CORPUS_TILE)
    asking = cells.sorted(queries)

    def search(start: int) -> None:
        tile = asking[start : start + QUERY_TILE]
        lists = TopK(found.scores[tile], found.orders[tile])
        left, candidates = Bounded.of(queries, tile, bounds), Candidates(lists, least)
        for place, at in enumerate(tiles.near(queries[tile])):
            _compare(left, right.tile(at, CORPUS_TILE), orders, candidates, first=place == 0)
        candidates.settle()
        found.scores[tile], found.orders[tile] = lists.scores, lists.orders

    for _ in in_threads(search, range(0, len(queries), QUERY_TILE)):
        pass


def _compare(
    left: Bounded, right: Bounded, orders: Orders, candidates: Candidates, *, first: bool
) -> None:
    """Bring what a tile of the corpus holds into the lists of a tile of queries."""
    if first and not np.isfinite(candidates.floor).all():
        floor = first_floor(left, right, candidates.k)
        np.maximum(candidates.floor, floor, out=candidates.floor)
    rows, columns, scores = reaching(left, right, candidates.floor)
    candidates.add(rows, orders[right.at[columns]], scores)


def _above(found: TopK, least: float) -> TopK:
    """Empty the places of rows that score less than `least`."""
    low = found.scores < least
    return TopK(
        np.where(low, -np.inf, found.scores).astype(np.float32),
        np.where(low, MISSING, found.orders),
    )
