"""Metrics of scored items where scores may tie and there is no id to settle a tie by.

Nobody gains by a tie: nDCG averages over the orders of tied items (McSherry and Najork, 2008;
scikit-learn's `ndcg_score`), average precision counts a tie as one step (scikit-learn's
`average_precision_score`), and the reciprocal rank puts relevant items last in their tie. So items
that are all scored zero are no hits.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[np.floating[Any]]
Flags: TypeAlias = npt.NDArray[np.bool_]


def tied_average_precision(relevant: Flags, scores: Values) -> float:
    """Return the area under the precision-recall steps, a tie being one step; 0 if none is."""
    total = int(relevant.sum())
    if not total:
        return 0.0
    ends, found = _steps(relevant, scores)
    gained = np.diff(found, prepend=0) / total
    return float((gained * found / (ends + 1)).sum())


def tied_reciprocal_rank(relevant: Flags, scores: Values, k: int) -> float:
    """Return 1 / rank of the first relevant item, last in its tie; 0 past rank `k`."""
    if not relevant.any():
        return 0.0
    best = scores[relevant].max()
    rank = int((scores > best).sum() + ((scores == best) & ~relevant).sum()) + 1
    return 1 / rank if rank <= k else 0.0


def tied_ndcg(relevant: Flags, scores: Values, k: int) -> float:
    """Return nDCG@k for binary relevance, averaged over the orders of tied items."""
    discounts = 1 / np.log2(np.arange(len(scores)) + 2)
    discounts[k:] = 0
    ideal = float(discounts[: int(relevant.sum())].sum())
    if not ideal:
        return 0.0
    ends, found = _steps(relevant, scores)
    sizes = np.diff(ends, prepend=-1)
    share = np.diff(found, prepend=0) / sizes
    spent = np.diff(np.cumsum(discounts)[ends], prepend=0)
    return float((share * spent).sum()) / ideal


def _steps(relevant: Flags, scores: Values) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the last place of every group of equal scores, and relevant items found till there."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    found = np.cumsum(relevant[order], dtype=np.int64)
    return ends.astype(np.int64), found[ends]
