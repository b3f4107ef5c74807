"""Near-duplicates: groups of rows that strong pairs link, and the row to keep of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from raybert.errors import InputError
from raybert.mining.positives import Rows
from raybert.vectors import TopPairs

KEEP = ("first", "longest", "best")


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of near-duplicates, of two rows or more.

    Args:
        group: [N] the number of each row's group, -1 where it stands alone.
        kept: [G] the row that stands for each group.
    """

    group: Rows
    kept: Rows

    @property
    def removed(self) -> Rows:
        """The rows that another row stands for, rising."""
        grouped = np.flatnonzero(self.group >= 0)
        return np.asarray(np.setdiff1d(grouped, self.kept))

    def members(self) -> list[list[int]]:
        """Return the rows of each group, the kept one first."""
        order = np.argsort(self.group, kind="stable")
        order = order[self.group[order] >= 0]
        cuts = np.flatnonzero(np.diff(self.group[order])) + 1
        rows = [part.tolist() for part in np.split(order, cuts)] if len(order) else []
        firsts = self.kept.tolist()
        return [
            [first, *(row for row in group if row != first)]
            for first, group in zip(firsts, rows, strict=True)
        ]


def group_duplicates(
    pairs: TopPairs,
    rows: int,
    *,
    keep: str = "first",
    lengths: Sequence[int] | None = None,
    scores: Sequence[float] | None = None,
) -> Groups:
    """Join rows that pairs link, directly or through others, and choose the row to keep.

    Args:
        pairs: pairs above the threshold that makes a duplicate.
        rows: N, all rows.
        keep: `first` keeps the first row, `longest` the longest text, `best` the highest score,
            which without `scores` is the sum of its pairs'; the first among equals.
        lengths: [N], for `longest`.
        scores: [N], for `best`.

    Returns:
        Groups, numbered by their first row.

    Raises:
        InputError: unknown rule, or what it looks at is not given for every row.
    """
    if keep not in KEEP:
        raise InputError(f"keep {keep!r}: allowed are {', '.join(KEEP)}")
    if keep == "best" and scores is None:
        ends = np.concatenate([pairs.left, pairs.right])
        scores = np.bincount(ends, np.tile(pairs.scores, 2), minlength=rows).tolist()
    worth = {"first": [0] * rows, "longest": lengths, "best": scores}[keep]
    if worth is None or len(worth) != rows:
        raise InputError(f"keep {keep!r} needs {keep} of {rows} rows to be told by")
    links = np.ones(len(pairs.left), np.int8)
    graph = coo_matrix((links, (pairs.left, pairs.right)), shape=(rows, rows))
    _, labels = connected_components(graph, directed=False)
    large = np.bincount(labels, minlength=1)[labels] > 1 if rows else np.empty(0, bool)
    members = np.flatnonzero(large)
    firsts, inverse = np.unique(labels[members], return_index=True, return_inverse=True)[1:]
    numbers = np.argsort(np.argsort(firsts))
    group = np.full(rows, -1, np.int64)
    group[members] = numbers[inverse]
    order = members[np.lexsort((members, -np.asarray(worth)[members], group[members]))]
    kept = order[np.flatnonzero(np.diff(group[order], prepend=-1))]
    return Groups(group, kept)
