"""Fresh rows of a live index: in memory, since the last segment was sealed; searched exactly.

Rows are only ever added, and a row that was replaced or deleted is marked with the sequence of the
change, so that a reader of an earlier sequence goes on undisturbed while rows are written.
Shapes: Q queries, N rows, K results.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybert.index.live_rows import FreshRows, grown
from raybert.records import ID, VECTOR, Hit

NEVER = np.iinfo(np.int64).max
"""Sequence at which a living row dies."""
Mask = npt.NDArray[np.bool_]


class Fresh:
    """Rows in the order they came.

    Args:
        store: their vectors or sparse rows; empty.
        sequence: the last change before they begin.
    """

    def __init__(self, store: FreshRows, sequence: int) -> None:
        self._store = store
        self.sequence = sequence
        """The last change that was applied to them."""
        self._died: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._born: list[int] = []
        self._ids: list[str] = []
        self._rows: dict[str, list[int]] = {}
        self._tables: list[pa.Table] = []
        self._payload: tuple[int, pa.Table] | None = None

    def __len__(self) -> int:
        return len(self._born)

    def add(self, sequence: int, table: pa.Table) -> None:
        """Add the rows of one record; older rows of their ids are to be killed by the caller."""
        self._store.add(table)
        start, end = len(self._ids), len(self._ids) + table.num_rows
        self._died = grown(self._died, end)
        self._died[start:end] = NEVER
        ids = table[ID].to_pylist()
        self._ids += ids
        for row, identifier in enumerate(ids, start):
            self._rows.setdefault(identifier, []).append(row)
        self._tables.append(table)
        self._born += [sequence] * table.num_rows  # last: it is what readers count rows by

    def kill(self, sequence: int, ids: Iterable[str]) -> None:
        """Mark the living rows of `ids` as dead from `sequence` on."""
        for identifier in ids:
            for row in self._rows.get(identifier, ()):
                self._died[row] = min(self._died[row], sequence)

    def row_of(self, identifier: str, sequence: int) -> int | None:
        """Return the row that lives under an id at `sequence`, or None."""
        count = self._count(sequence)
        rows = [row for row in self._rows.get(identifier, ()) if row < count]
        return rows[-1] if rows and self._died[rows[-1]] > sequence else None

    def alive(self, sequence: int) -> Mask:
        """Say which rows [N] live at `sequence`."""
        return np.asarray(self._died[: self._count(sequence)] > sequence)

    def rows(self, sequence: int) -> Iterator[pa.Table]:
        """Yield the rows that live at `sequence`: id, vector, payload."""
        tables = pa.concat_tables(self._tables, promote_options="permissive")
        alive = self.alive(sequence)
        yield tables.slice(0, len(alive)).filter(pa.array(alive))

    def payload(self, sequence: int) -> pa.Table:
        """Return ids and payload of all rows up to `sequence`, dead or alive."""
        count = self._count(sequence)
        joined, table = self._payload or (0, None)
        if table is None or table.num_rows < count:
            known = len(self._tables)  # the writer may add more meanwhile
            later = [each.drop_columns([VECTOR]) for each in self._tables[joined:known]]
            parts = later if table is None else [table, *later]
            table = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
            self._payload = (known, table)
        return table.slice(0, count)

    def search(
        self, queries: Any, k: int, sequence: int, allowed: Mask | None = None
    ) -> list[list[Hit]]:
        """Return the `k` best living rows of every prepared query, ties by id.

        Args:
            queries: queries as the index's reader prepares them.
            k: hits a query.
            sequence: rows that live at it are searched.
            allowed: rows [N] that may be found; all if None.
        """
        alive = self.alive(sequence)
        living = alive if allowed is None else alive & allowed
        if not living.any():
            return [[] for _ in range(queries.shape[0])]
        return [self._best(*found, k) for found in self._store.nearest(queries, living, k)]

    def _best(self, rows: Any, scores: Any, k: int) -> list[Hit]:
        hits = list(map(Hit, [self._ids[row] for row in rows.tolist()], scores.tolist()))
        hits.sort(key=lambda hit: (-hit.score, hit.id))
        return hits[:k]

    def _count(self, sequence: int) -> int:
        return bisect.bisect_right(self._born, sequence)
