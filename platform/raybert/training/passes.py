"""Which rows go through the model together, so that passes and padding cost least."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def cheapest_passes(
    lengths: Sequence[int], most_rows: int, most_tokens: int | None, overhead: int
) -> list[list[int]]:
    """Cut rows, longest first, into passes of the least cost.

    A pass of n rows costs n times its longest row, in tokens, and `overhead`. Over rows sorted by
    length the best cut is found exactly: best[j] = min_i best[i] + (j - i) length_i + overhead.

    Args:
        lengths: tokens of each row.
        most_rows: rows of a pass.
        most_tokens: tokens of a pass, padding included; None sets no limit. A single longer row
            still is a pass.
        overhead: what a pass costs besides its tokens, in tokens.

    Returns:
        row numbers, a pass each.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    widths = np.maximum(np.asarray(lengths, dtype=np.int64)[order], 1)
    limit = np.full(len(order), most_rows, dtype=np.int64)
    if most_tokens is not None:
        limit = np.minimum(limit, np.maximum(most_tokens // widths, 1))
    best = np.zeros(len(order) + 1, dtype=np.int64)
    first = np.zeros(len(order) + 1, dtype=np.int64)
    starts = np.arange(len(order))
    for end in range(1, len(order) + 1):
        rows = end - starts[:end]
        costs = best[:end] + rows * widths[:end] + overhead
        costs[rows > limit[:end]] = np.iinfo(np.int64).max
        first[end] = costs.argmin()
        best[end] = costs[first[end]]
    cuts = [len(order)]
    while cuts[-1]:
        cuts.append(int(first[cuts[-1]]))
    cuts.reverse()
    return [order[a:b].tolist() for a, b in pairwise(cuts)]
