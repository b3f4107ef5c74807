"""Top pairs: the most similar pairs within one set of vectors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError
from raybert.vectors.similarity import Vectors
from raybert.vectors.topk import MISSING, Orders, Scores, blocks_of, exact_topk


class TopPairs(NamedTuple):
    """Pairs of rows, best first: `scores` [P], and `left` < `right`, rows, [P]."""

    scores: Scores
    left: Orders
    right: Orders


def top_pairs(
    vectors: Vectors,
    *,
    top_k: int = 100,
    max_pairs: int = 500_000,
    similarity: str = "cosine",
) -> TopPairs:
    """Find the most similar pairs of rows: the best `max_pairs` among each row's `top_k` nearest.

    A pair is listed once; pairs of equal score are ordered by (left, right).

    Args:
        vectors: [N, D].
        top_k: neighbours of a row that may form pairs, the row itself not counted.
        max_pairs: pairs to keep.
        similarity: one of `SIMILARITIES`.

    Raises:
        InputError: a bound below 1.
    """
    if max_pairs < 1:
        raise InputError(f"max_pairs {max_pairs}: at least 1 is allowed")
    found = exact_topk(vectors, blocks_of(vectors), top_k + 1, similarity=similarity)
    rows = np.repeat(np.arange(len(found.orders), dtype=np.int64), found.orders.shape[1])
    scores, others, kept = found.scores.ravel(), found.orders.ravel(), _kept(found.orders)
    return _distinct(scores[kept], rows[kept], others[kept], max_pairs)


def _kept(orders: Orders) -> npt.NDArray[np.bool_]:
    """Drop each row's hit on itself, or its last hit where it has none, and empty places."""
    own = orders == np.arange(len(orders))[:, None]
    own[~own.any(axis=1), -1] = True
    return np.asarray(~own & (orders != MISSING)).ravel()


def _distinct(scores: Scores, rows: Orders, others: Orders, max_pairs: int) -> TopPairs:
    left, right = np.minimum(rows, others), np.maximum(rows, others)
    order = np.lexsort((right, left, -scores))
    left, right, scores = left[order], right[order], scores[order]
    _, first = np.unique(left * (int(right.max(initial=0)) + 1) + right, return_index=True)
    first = np.sort(first)[:max_pairs]
    return TopPairs(scores[first], left[first], right[first])
