"""Nearest neighbours in bulk: many queries against many rows, at the speed of a matrix product.

Two steps. A float32 product of tiles finds the candidates: all whose score may be among the K
best, rounding allowed for. The candidates alone are then scored pair by pair in float64, so the
scores and the order (ties by the smaller `order`) do not depend on how queries and corpus are
cut, on threads or on tiles. Shapes: Q queries, N rows, D width, K results.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from raybert.errors import InputError
from raybert.vectors.similarity import pick_similarity
from raybert.vectors.topk import MISSING, Orders, Scores, TopK, exact_topk

Rows: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[Any]

QUERY_TILE = 512
CORPUS_TILE = 2048
_SLACK = 4e-6
"""Twice what a float32 product of two unit vectors may be off."""
_PRODUCTS = ("cosine", "dot")
_PAIRS = 8192


def unit_rows(vectors: Floats) -> npt.NDArray[np.float32]:
    """Return [N, D] float32 rows of length 1; a zero row stays zero; each row by itself."""
    units = np.array(vectors, dtype=np.float32, order="C")
    for start in range(0, len(units), _PAIRS):
        part = units[start : start + _PAIRS]
        lengths = np.sqrt(np.square(part, dtype=np.float64).sum(axis=1, keepdims=True))
        np.divide(part, np.maximum(lengths, 1e-12), out=part, casting="same_kind")
    return units


def prepared(vectors: Floats, similarity: str, where: str = "vectors") -> npt.NDArray[np.float32]:
    """Return [N, D] float32 rows ready for `nearest`: scaled to length 1 for the cosine.

    Raises:
        InputError: not two dimensions, NaN or infinite values, unknown similarity.
    """
    pick_similarity(similarity)
    if vectors.ndim != 2:
        raise InputError(f"{where} of shape {vectors.shape}: rows of one width are expected")
    finite = np.isfinite(vectors.sum(axis=1))
    if not finite.all():
        bad = int(np.flatnonzero(~finite)[0])
        raise InputError(f"{where}: row {bad} holds NaN or infinite values")
    return unit_rows(vectors) if similarity == "cosine" else np.ascontiguousarray(vectors, "f4")


def nearest(
    queries: npt.NDArray[np.float32],
    corpus: npt.NDArray[np.float32],
    k: int,
    *,
    orders: Orders | None = None,
    similarity: str = "cosine",
) -> TopK:
    """Find the `k` most similar rows of the corpus for every query, by comparing with all.

    Memory beside the arguments and the result is some megabytes.

    Args:
        queries: [Q, D], as `prepared` returns them.
        corpus: [N, D], likewise.
        k: results a query; filled with `MISSING` where the corpus is smaller.
        orders: [N], by which equal scores are ordered; the row if None.
        similarity: one of `SIMILARITIES`.

    Raises:
        InputError: k below 1, another width.
    """
    if k < 1:
        raise InputError(f"top-k {k}: at least 1 is allowed")
    if queries.shape[1] != corpus.shape[1]:
        raise InputError(f"vectors {queries.shape[1]} and {corpus.shape[1]} wide: one width needed")
    known = np.arange(len(corpus), dtype=np.int64) if orders is None else orders
    if similarity not in _PRODUCTS:
        return exact_topk(queries, [(corpus, known)], k, similarity=similarity)
    found = TopK.empty(len(queries), k)
    slack = _SLACK * (1.0 if similarity == "cosine" else _greatest(queries) * _greatest(corpus))
    for start in range(0, len(queries), QUERY_TILE):
        tile = queries[start : start + QUERY_TILE]
        candidates = _search(tile, corpus, k, slack)
        _settle(found, start, tile, corpus, candidates, known)
    return found


def pair_scores(
    left: Floats, right: Floats, rows: Rows, columns: Rows, similarity: str = "cosine"
) -> Scores:
    """Return the similarity of `left[rows[i]]` and `right[columns[i]]`, [P], each by itself.

    Products are summed in float64; `left` and `right` are as `prepared` returns them.
    """
    scores = np.empty(len(rows), np.float32)
    pairwise = pick_similarity(similarity).pairwise
    for start in range(0, len(rows), _PAIRS):
        part = slice(start, start + _PAIRS)
        a, b = left[rows[part]], right[columns[part]]
        if similarity in _PRODUCTS:
            scores[part] = np.multiply(a, b, dtype=np.float64).sum(axis=1)
        else:
            scores[part] = pairwise(a, b).numpy()
    return scores


class Candidates:
    """Pairs (row, column, score) of a tile of queries that may still be among the K best.

    `floor` [Q] is what a new candidate must reach.
    """

    def __init__(self, queries: int, k: int, slack: float) -> None:
        self.floor = np.full(queries, -np.inf, np.float32)
        self._queries, self._k, self._slack = queries, k, np.float32(slack)
        self._parts: list[tuple[Rows, Rows, Scores]] = []
        self._held = self._settled = 0

    def add(self, rows: Rows, columns: Rows, scores: Scores) -> None:
        """Take candidates; now and then drop those that can no longer win."""
        self._parts.append((rows, columns, scores))
        self._held += len(rows)
        if self._held > 2 * self._settled + 32 * self._queries:
            self.settle()

    def settle(self) -> tuple[Rows, Rows, Scores]:
        """Return what may be among the K best, by row and falling score; raise the floor."""
        rows, columns, scores = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        order = np.argsort((rows << 32) + _falling(scores), kind="stable")
        rows, columns, scores = rows[order], columns[order], scores[order]
        counts = np.bincount(rows, minlength=self._queries)
        starts = np.cumsum(counts) - counts
        full = np.flatnonzero(counts >= self._k)
        self.floor[full] = scores[starts[full] + self._k - 1] - self._slack
        # rows of equal vectors beyond any use are let go: they tie, and the first are kept
        near = np.arange(len(rows)) - starts[rows] < 2 * self._k + 256
        kept = (scores >= self.floor[rows]) & near
        settled = rows[kept], columns[kept], scores[kept]
        self._parts, self._held = [settled], int(kept.sum())
        self._settled = self._held
        return settled


def _search(
    tile: npt.NDArray[np.float32], corpus: npt.NDArray[np.float32], k: int, slack: float
) -> tuple[Rows, Rows]:
    """Return rows of the tile and of the corpus that may be among each other's K best."""
    candidates = Candidates(len(tile), k, slack)
    candidates.add(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    queries = torch.from_numpy(tile)
    for start in range(0, len(corpus), CORPUS_TILE):
        rows = torch.from_numpy(corpus[start : start + CORPUS_TILE])
        scores = queries @ rows.T
        floor = torch.from_numpy(candidates.floor)
        if start == 0 and len(rows) > k:
            floor = scores.topk(k, dim=1).values[:, -1] - slack
        places = np.flatnonzero((scores >= floor[:, None]).numpy())
        found, columns = np.divmod(places, len(rows))
        candidates.add(found, columns + start, scores.numpy().reshape(-1)[places])
    rows_of, columns, _ = candidates.settle()
    return rows_of, columns


def _settle(
    found: TopK,
    start: int,
    tile: npt.NDArray[np.float32],
    corpus: npt.NDArray[np.float32],
    candidates: tuple[Rows, Rows],
    orders: Orders,
) -> None:
    """Score a tile's candidates pair by pair and write the K best of every query."""
    rows, columns = candidates
    k = found.scores.shape[1]
    scores, known = pair_scores(tile, corpus, rows, columns, "dot"), orders[columns]
    order = np.lexsort((known, -scores, rows))
    rows, scores, known = rows[order], scores[order], known[order]
    counts = np.bincount(rows, minlength=len(tile))
    places = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    kept = places < k
    found.scores[start + rows[kept], places[kept]] = scores[kept]
    found.orders[start + rows[kept], places[kept]] = known[kept]


def _falling(scores: Scores) -> Rows:
    """Return numbers below 2^32 that rise as the scores fall."""
    bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)
    rising = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return np.asarray((1 << 31) - rising)


def _greatest(vectors: npt.NDArray[np.float32]) -> float:
    """Return the greatest length of a row."""
    return float(np.sqrt(np.square(vectors).sum(axis=1).max(initial=0.0)))


__all__ = ["MISSING", "Candidates", "nearest", "pair_scores", "prepared", "unit_rows"]
