"""Positives: which rows of the corpus are known to belong to which query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError

Rows: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Positives:
    """The positives of every query, one query after another.

    Args:
        offsets: [Q + 1]; the positives of query q stand at `offsets[q]` to `offsets[q + 1]`.
        rows: [P] rows of the corpus; each once a query, in the order they were given.
        most: the largest number of pairs one query was given, repeated pairs counted.
    """

    offsets: Rows
    rows: Rows
    most: int

    @classmethod
    def of(cls, queries: Rows, rows: Rows, count: int) -> Positives:
        """Gather pairs (query, corpus row) by query.

        Args:
            queries: [P] the query of each pair.
            rows: [P] the corpus row of each pair.
            count: Q, the number of queries; each needs a positive.

        Raises:
            InputError: no pairs, or a query without a positive.
        """
        if not len(queries):
            raise InputError("no pairs of anchor and positive are given; at least one is needed")
        given = np.bincount(queries, minlength=count)
        if not given.all():
            raise InputError(f"query {int(np.argmin(given))} has no positive")
        keys = queries * (int(rows.max()) + 1) + rows
        first = np.sort(np.unique(keys, return_index=True)[1])
        order = first[np.argsort(queries[first], kind="stable")]
        offsets = np.concatenate([[0], np.bincount(queries[order], minlength=count).cumsum()])
        return cls(offsets.astype(np.int64), rows[order], int(given.max()))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Rows:
        """Number of positives of every query, [Q]."""
        return np.diff(self.offsets)

    @property
    def queries(self) -> Rows:
        """The query of every positive, [P]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.counts)

    def part(self, start: int, stop: int) -> Positives:
        """Return the positives of queries `start` to `stop`, which are numbered from 0 on."""
        offsets = self.offsets[start : stop + 1]
        return Positives(offsets - offsets[0], self.rows[offsets[0] : offsets[-1]], self.most)

    def among(self, found: Rows) -> npt.NDArray[np.bool_]:
        """Say which of the corpus rows found for each query, [Q, K], are its positives."""
        width = int(max(self.rows.max(initial=0), found.max(initial=0))) + 1
        known = self.queries * width + self.rows
        keys = np.arange(len(self), dtype=np.int64)[:, None] * width + found
        return np.isin(keys, known) & (found >= 0)
