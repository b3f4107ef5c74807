"""Nearest neighbours in bulk: many queries against many rows, at the speed of a matrix product.

Where `exact_topk` merges lists tile by tile, this keeps for every query the score a candidate
must reach, so that of a tile of products only the few that reach it are looked at again. Scores
are computed in tiles of one fixed shape and equal scores ordered by `order`, so results do not
depend on how queries and corpus are cut. Shapes: Q queries, N rows, D width, K results.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.errors import InputError
from raybert.vectors.similarity import pick_similarity
from raybert.vectors.topk import Orders, Scores, TopK, exact_topk

Rows: TypeAlias = npt.NDArray[np.int64]
Matrix: TypeAlias = npt.NDArray[np.float32]

QUERY_TILE = 1024
CORPUS_TILE = 1024
_PRODUCTS = ("cosine", "dot")
_PAIRS = 2048


def prepared(vectors: npt.NDArray[Any], similarity: str, where: str = "vectors") -> Matrix:
    """Return [N, D] float32 rows ready for `nearest`: scaled to length 1 for the cosine.

    Each row is scaled by itself; a zero row stays zero.

    Raises:
        InputError: not two dimensions, NaN or infinite values, unknown similarity.
    """
    pick_similarity(similarity)
    if vectors.ndim != 2:
        raise InputError(f"{where} of shape {vectors.shape}: rows of one width are expected")
    rows = np.array(vectors, dtype=np.float32, order="C")
    for start in range(0, len(rows), _PAIRS):
        part = rows[start : start + _PAIRS]
        lengths = np.sqrt(np.square(part, dtype=np.float64).sum(axis=1, keepdims=True))
        if not np.isfinite(lengths).all():
            bad = start + int(np.flatnonzero(~np.isfinite(lengths))[0])
            raise InputError(f"{where}: row {bad} holds NaN or infinite values")
        if similarity == "cosine":
            np.divide(part, np.maximum(lengths, 1e-12), out=part, casting="same_kind")
    return rows


def nearest(
    queries: Matrix,
    corpus: Matrix,
    k: int,
    *,
    orders: Orders | None = None,
    similarity: str = "cosine",
) -> TopK:
    """Find the `k` most similar rows of the corpus for every query, by comparing with all.

    Memory beside the arguments and the result is some tens of megabytes.

    Args:
        queries: [Q, D], as `prepared` returns them.
        corpus: [N, D], likewise.
        k: results a query; filled with `MISSING` where the corpus is smaller.
        orders: [N] rising, by which equal scores are ordered; the row if None.
        similarity: one of `SIMILARITIES`.

    Raises:
        InputError: k below 1, another width, orders that do not rise.
    """
    if k < 1:
        raise InputError(f"top-k {k}: at least 1 is allowed")
    if queries.shape[1] != corpus.shape[1]:
        raise InputError(f"vectors {queries.shape[1]} and {corpus.shape[1]} wide: one width needed")
    known = np.arange(len(corpus), dtype=np.int64) if orders is None else orders
    if (np.diff(known) < 0).any():
        raise InputError("orders must rise with the rows of the corpus")
    if similarity not in _PRODUCTS:
        return exact_topk(queries, [(corpus, known)], k, similarity=similarity)
    found = TopK.empty(len(queries), k)
    for start in range(0, len(queries), QUERY_TILE):
        tile = queries[start : start + QUERY_TILE]
        rows, columns, scores = _search(tile, corpus, k)
        places = places_in_row(rows, len(tile))
        found.scores[start + rows, places] = scores
        found.orders[start + rows, places] = known[columns]
    return found


def pair_scores(
    left: Matrix, right: Matrix, rows: Rows, columns: Rows, similarity: str = "cosine"
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

    Columns must be added in rising order, which settles ties. `floor` [Q] is what a new
    candidate must reach.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.floor = np.full(queries, -np.inf, np.float32)
        self._queries, self._k = queries, k
        self._parts: list[tuple[Rows, Rows, Scores]] = []
        self._held = self._settled = 0

    def add(self, rows: Rows, columns: Rows, scores: Scores) -> None:
        """Take candidates; now and then drop those that can no longer win."""
        self._parts.append((rows, columns, scores))
        self._held += len(rows)
        if self._held > 1.5 * self._settled + 8 * self._queries:
            self.settle()

    def settle(self) -> tuple[Rows, Rows, Scores]:
        """Return the K best so far, by row and falling score; raise the floor."""
        if not self._parts:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        rows, columns, scores = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        order = np.argsort((rows << 32) + falling(scores), kind="stable")
        rows = rows[order]
        kept = places_in_row(rows, self._queries) < self._k
        order, rows = order[kept], rows[kept]
        columns, scores = columns[order], scores[order]
        last = np.cumsum(np.bincount(rows, minlength=self._queries))
        full = np.diff(last, prepend=0) == self._k
        self.floor[full] = scores[last[full] - 1]
        self._parts, self._held = [(rows, columns, scores)], len(rows)
        self._settled = len(rows)
        return rows, columns, scores


def products(queries: Matrix, corpus: Matrix) -> Tensor:
    """Return the products of two tiles [A, D] x [B, D], computed in the one fixed shape."""
    tall = _padded(torch.from_numpy(queries), QUERY_TILE)
    wide = _padded(torch.from_numpy(corpus), CORPUS_TILE)
    return (tall @ wide.T)[: len(queries), : len(corpus)]


def falling(scores: Scores) -> Rows:
    """Return numbers from 0 to 2^32 that rise as the scores fall."""
    bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)
    rising = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return np.asarray((1 << 31) - 1 - rising)


def places_in_row(rows: Rows, count: int) -> Rows:
    """Return each entry's place within its row, from 0, for entries that stand row by row."""
    counts = np.bincount(rows, minlength=count)
    return np.asarray(np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows])


def _search(tile: Matrix, corpus: Matrix, k: int) -> tuple[Rows, Rows, Scores]:
    """Return the K best of every query of a tile, by row and falling score."""
    candidates = Candidates(len(tile), k)
    for start in range(0, len(corpus), CORPUS_TILE):
        scores = products(tile, corpus[start : start + CORPUS_TILE])
        width = scores.shape[1]
        if start == 0 and width > k:
            candidates.floor[:] = scores.topk(k, dim=1).values[:, -1].numpy()
        floor = torch.from_numpy(candidates.floor)
        places = np.flatnonzero((scores >= floor[:, None]).numpy())
        rows, columns = np.divmod(places, width)
        candidates.add(rows, columns + start, scores.numpy()[rows, columns])
    return candidates.settle()


def _padded(rows: Tensor, length: int) -> Tensor:
    return rows if len(rows) == length else F.pad(rows, (0, 0, 0, length - len(rows)))
