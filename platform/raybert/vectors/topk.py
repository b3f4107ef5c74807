"""Exact top-k of queries over corpus blocks: chunked products, merged lists, ties by id.

The rule of ties everywhere in raybert: higher score first, and among equal scores the smaller
id string first. Here ids are numbers that say that order (`order`): the rank of the row's id
among all ids, or simply the row where rows are already sorted by id. Scores are computed in tiles
of one fixed shape, so how a corpus is cut into blocks changes neither a score nor the result.
Shapes: Q queries, N rows of a block, D width, K results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.errors import InputError
from raybert.vectors.similarity import Vectors, as_vectors, pick_similarity

Scores: TypeAlias = npt.NDArray[np.float32]
Orders: TypeAlias = npt.NDArray[np.int64]

MISSING = -1
"""The order that fills a list where the corpus has fewer than K rows; its score is -inf."""
_LAST = np.iinfo(np.int64).max
QUERY_TILE = 256
CORPUS_TILE = 4096


@dataclass(frozen=True, slots=True)
class TopK:
    """The K best of every query, best first: `scores` and `orders`, both [Q, K]."""

    scores: Scores
    orders: Orders

    @classmethod
    def empty(cls, queries: int, k: int) -> TopK:
        """Return lists with nothing found yet."""
        scores = np.full((queries, k), -np.inf, dtype=np.float32)
        return cls(scores, np.full((queries, k), MISSING, dtype=np.int64))

    def part(self, start: int, stop: int) -> TopK:
        """Return the lists of queries `start` to `stop`."""
        return TopK(self.scores[start:stop], self.orders[start:stop])

    def merge(self, other: TopK) -> TopK:
        """Return the K best of two lists of the same queries over different rows."""
        scores = np.concatenate([self.scores, other.scores], axis=1)
        orders = np.concatenate([self.orders, other.orders], axis=1)
        return best(scores, orders, self.scores.shape[1])


def best(scores: Scores, orders: Orders, k: int) -> TopK:
    """Return the `k` best columns of [Q, C] candidates: by falling score, then rising order."""
    unsigned = np.where(orders == MISSING, _LAST, orders)
    columns = np.lexsort((unsigned, -scores), axis=-1)[:, :k]
    return TopK(
        np.take_along_axis(scores, columns, axis=1), np.take_along_axis(orders, columns, axis=1)
    )


def exact_topk(
    queries: Vectors,
    blocks: Iterable[tuple[Vectors, Orders]],
    k: int,
    *,
    similarity: str = "cosine",
) -> TopK:
    """Find the `k` most similar corpus rows of every query, by comparing with all of them.

    Memory is bounded by one block and the lists, never by the corpus.

    Args:
        queries: [Q, D].
        blocks: pairs of vectors [N, D] and their `order` [N] (unique over all blocks).
        k: results a query; lists are filled with `MISSING` when the corpus is smaller.
        similarity: one of `SIMILARITIES`.

    Raises:
        InputError: k below 1, another width, unknown similarity, NaN scores.
    """
    if k < 1:
        raise InputError(f"top-k {k}: at least 1 is allowed")
    queries_QD = as_vectors(queries)
    found = TopK.empty(len(queries_QD), k)
    for vectors, orders in blocks:
        block_ND = as_vectors(vectors)
        if len(block_ND) != len(orders):
            raise InputError(f"block of {len(block_ND)} vectors has {len(orders)} orders")
        for start in range(0, len(block_ND), CORPUS_TILE):
            rows = slice(start, start + CORPUS_TILE)
            tile_ND = rows_of(block_ND, start, CORPUS_TILE)
            tile = _tile_topk(queries_QD, tile_ND, orders[rows], k, similarity)
            found = found.merge(tile)
    return found


def block_topk(scores: Tensor, orders: Orders, k: int) -> TopK:
    """Return the best `k` of a score matrix [Q, N], ties at the k-th place settled by order.

    `torch.topk` settles them as it likes, so rows with more candidates than places are redone.
    """
    if torch.isnan(scores).any():
        raise InputError("a score is NaN: a vector holds NaN or infinite values")
    width = min(k, scores.shape[1])
    values, columns = scores.topk(width, dim=1)
    values, columns = values.cpu(), columns.cpu()
    found_scores = values.numpy().astype(np.float32)
    found_orders = orders[columns.numpy()]
    candidates = (scores >= values[:, -1:].to(scores.device)).sum(dim=1).cpu().numpy()
    for query in np.flatnonzero(candidates > width):
        row = scores[query].cpu().numpy()
        tied = np.flatnonzero(row >= row[columns[query, -1]])
        settled = best(row[None, tied].astype(np.float32), orders[None, tied], width)
        found_scores[query], found_orders[query] = settled.scores[0], settled.orders[0]
    return best(found_scores, found_orders, width)


def blocks_of(vectors: Vectors, rows: int = 64 * CORPUS_TILE) -> Iterator[tuple[Vectors, Orders]]:
    """Yield one array [N, D] in blocks of `rows`, ordered by row."""
    for start in range(0, len(vectors), rows):
        block = (
            rows_of(vectors, start, rows)
            if isinstance(vectors, Tensor)
            else vectors[start : start + rows]
        )
        yield block, np.arange(start, start + len(block), dtype=np.int64)


def rows_of(vectors: Tensor, start: int, count: int) -> Tensor:
    """Return `count` rows from `start` on (fewer at the end), of a dense or sparse tensor."""
    if vectors.layout == torch.strided:
        return vectors[start : start + count]
    count = min(count, len(vectors) - start)
    coordinates = vectors.to_sparse_coo().coalesce()  # type: ignore[no-untyped-call]
    indices = coordinates.indices()
    inside = (indices[0] >= start) & (indices[0] < start + count)
    moved = torch.stack([indices[0][inside] - start, indices[1][inside]])
    part = torch.sparse_coo_tensor(
        moved, coordinates.values()[inside], (count, vectors.shape[1]), check_invariants=False
    )
    return part.coalesce()


def _tile_topk(
    queries_QD: Tensor, tile_ND: Tensor, orders: Orders, k: int, similarity: str
) -> TopK:
    """Score one corpus tile against all queries, in query tiles; both padded to fixed shapes."""
    matrix = pick_similarity(similarity).matrix
    # distances are summed pair by pair; only matrix products depend on the shapes multiplied
    shaped = similarity in ("cosine", "dot")
    padded_ND = _padded(tile_ND, CORPUS_TILE) if shaped else tile_ND
    parts: list[TopK] = []
    for start in range(0, len(queries_QD), QUERY_TILE):
        part_QD = rows_of(queries_QD, start, QUERY_TILE)
        scores = matrix(_padded(part_QD, QUERY_TILE) if shaped else part_QD, padded_ND)
        parts.append(block_topk(scores[: len(part_QD), : len(tile_ND)], orders, k))
    if not parts:
        return TopK.empty(0, k)
    return TopK(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.orders for part in parts]),
    )


def _padded(rows: Tensor, length: int) -> Tensor:
    """Add zero rows up to `length`; sparse rows, whose products are summed singly, stay."""
    if len(rows) == length or rows.layout != torch.strided:
        return rows
    return F.pad(rows, (0, 0, 0, length - len(rows)))
