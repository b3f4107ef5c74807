"""Fresh rows of a live index: in memory, since the last segment was sealed; searched exactly.

Rows are only ever added, and a row that was replaced or deleted is marked with the sequence of the
change, so that a reader of an earlier sequence goes on undisturbed while rows are written.
Shapes: Q queries, N rows, D width, K results.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybert.index.metric import Floats, Metric
from raybert.records import ID, VECTOR, Hit

NEVER = np.iinfo(np.int64).max
"""Sequence at which a living row dies."""
Mask = npt.NDArray[np.bool_]


class Fresh:
    """Rows in the order they came.

    Args:
        metric: what they are ranked by.
        dimension: width of their vectors.
        sequence: the last change before they begin.
    """

    def __init__(self, metric: Metric, dimension: int, sequence: int) -> None:
        self._metric = metric
        self.sequence = sequence
        """The last change that was applied to them."""
        self._prepared: Floats = np.empty((0, dimension), dtype=np.float32)
        self._died: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._born: list[int] = []
        self._ids: list[str] = []
        self._rows: dict[str, list[int]] = {}
        self._tables: list[pa.Table] = []
        self._payload: tuple[int, pa.Table] | None = None
        self._greatest_norm = 0.0

    def __len__(self) -> int:
        return len(self._born)

    def add(self, sequence: int, table: pa.Table) -> None:
        """Add the rows of one record; older rows of their ids are to be killed by the caller."""
        prepared = self._metric.prepare(vectors_of(table, self._prepared.shape[1]))
        start, end = len(self._ids), len(self._ids) + table.num_rows
        self._prepared = _grown(self._prepared, end)
        self._died = _grown(self._died, end)
        self._prepared[start:end] = prepared
        self._died[start:end] = NEVER
        norms = np.linalg.norm(prepared, axis=1)
        self._greatest_norm = max(self._greatest_norm, float(norms.max(initial=0)))
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
        self, queries_QD: Floats, k: int, sequence: int, allowed: Mask | None = None
    ) -> list[list[Hit]]:
        """Return the `k` best living rows of every prepared query, ties by id.

        Args:
            queries_QD: queries as the metric prepares them.
            k: hits a query.
            sequence: rows that live at it are searched.
            allowed: rows [N] that may be found; all if None.
        """
        alive = self.alive(sequence)
        rows = np.flatnonzero(alive if allowed is None else alive & allowed)
        if not len(rows):
            return [[] for _ in queries_QD]
        vectors = self._prepared[rows]
        return [self._best(query[None], vectors, rows, k) for query in queries_QD]

    def _best(self, query_1D: Floats, vectors: Floats, rows: Any, k: int) -> list[Hit]:
        near = self._near(query_1D, vectors, k)
        keys = self._metric.exact_keys(query_1D, vectors[near][None])[0]
        scores = self._metric.scores(keys)
        hits = [
            Hit(self._ids[row], float(score))
            for row, score in zip(rows[near].tolist(), scores, strict=True)
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.id))
        return hits[:k]

    def _near(self, query_1D: Floats, vectors: Floats, k: int) -> Any:
        """Return all rows that may be among the `k` best, given how far float32 keys are off."""
        if self._metric.name not in {"cosine", "dot"} or len(vectors) <= k:
            return np.arange(len(vectors))
        keys = vectors @ query_1D[0]
        kth = np.partition(keys, len(keys) - k)[len(keys) - k]
        tolerance = self._metric.tolerance(query_1D, self._greatest_norm)[0]
        return np.flatnonzero(keys >= kth - 2 * tolerance)

    def _count(self, sequence: int) -> int:
        return bisect.bisect_right(self._born, sequence)


def vectors_of(table: pa.Table, dimension: int) -> Floats:
    """Return the vectors [N, D] of a table's rows."""
    flat = table[VECTOR].combine_chunks()
    if isinstance(flat, pa.ChunkedArray):
        flat = pa.concat_arrays(flat.chunks) if flat.num_chunks else pa.array([], flat.type)
    values: Floats = flat.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, dimension)


def _grown(array: Any, length: int) -> Any:
    """Return the array, or a longer copy; a reader of the shorter one keeps what it has."""
    if length <= len(array):
        return array
    grown = np.empty((max(length, 2 * len(array), 256), *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
