"""The rows of a live index, dense or sparse: checked, written to its log, searched while fresh.

In the log a row stands in one column, `vector`: numbers, or two lists, terms and weights. In a
sealed segment it has the columns of an embeddings artifact. Shapes: Q queries, N rows, D width,
V vocabulary, K results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from raybert.errors import InputError
from raybert.index.kinds import pick_kind
from raybert.index.live_state import LiveState
from raybert.index.metric import Floats, Metric, Rows, pick_metric
from raybert.index.queries import (
    DenseQueries,
    Queries,
    QueryReader,
    SparseQueries,
    compressed,
    prepare_sparse,
    refuse_weights,
)
from raybert.index.source import sparse_rows
from raybert.records import TERMS, VECTOR, WEIGHTS

Living: TypeAlias = npt.NDArray[np.bool_]
Found: TypeAlias = tuple[Rows, Floats]
"""Rows that hold at least the best K, in no order, and their exact scores."""


class FreshRows(Protocol):
    """Rows in memory, only ever added to; who reads the first of them is not disturbed."""

    def add(self, table: pa.Table) -> None:
        """Add the rows of one record."""
        ...

    def nearest(self, queries: Any, living: Living, k: int) -> Iterator[Found]:
        """Yield for every prepared query what holds the best `k` of the rows [N] that live."""
        ...


class RowForm(Protocol):
    """What the rows of a live index are."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names that no payload may have: those of their columns."""
        ...

    @property
    def reader(self) -> QueryReader:
        """What prepares queries."""
        ...

    def column(self, vectors: Queries) -> pa.Array:
        """Check rows and return them as the log's column.

        Raises:
            InputError: another width, or values that cannot be taken.
        """
        ...

    def fresh(self) -> FreshRows:
        """Return an empty store of fresh rows."""
        ...


@dataclass(frozen=True, slots=True)
class DenseForm:
    """Vectors of floats."""

    reader: DenseQueries
    columns: tuple[str, ...] = (VECTOR,)

    def column(self, vectors: Queries) -> pa.Array:
        """Return [N, D] vectors as one column of lists."""
        rows = np.asarray(vectors)
        width = self.reader.dimension
        if rows.ndim != 2 or rows.shape[1] != width:
            raise InputError(
                f"vectors of shape {rows.shape}: this index holds vectors {width} wide, "
                f"of the model {self.reader.model}"
            )
        floats = np.ascontiguousarray(rows, dtype=np.float32)
        finite = np.isfinite(floats).all(axis=1)
        if not finite.all():
            raise InputError(f"vector {int(np.argmin(finite))} holds NaN or infinite values")
        return pa.FixedSizeListArray.from_arrays(pa.array(floats.reshape(-1)), width)

    def fresh(self) -> FreshRows:
        """Return a store whose products find candidates and whose scores are exact."""
        return _FreshVectors(self.reader.metric, self.reader.dimension)


@dataclass(frozen=True, slots=True)
class SparseForm:
    """Rows of terms and weights."""

    reader: SparseQueries
    columns: tuple[str, ...] = (VECTOR, TERMS, WEIGHTS)

    def column(self, vectors: Queries) -> pa.Array:
        """Return [N, V] rows as one column of pairs of lists."""
        rows = compressed(vectors)
        width = self.reader.dimension
        if rows.shape[1] != width:
            raise InputError(
                f"vectors of shape {tuple(rows.shape)}: this index holds sparse vectors over "
                f"{width} terms, of the model {self.reader.model}"
            )
        refuse_weights(rows, lambda row: f"vector {row}")
        starts = pa.array(rows.indptr, pa.int32())
        terms = pa.ListArray.from_arrays(starts, pa.array(rows.indices, pa.int32()))
        weights = pa.ListArray.from_arrays(starts, pa.array(rows.data, pa.float32()))
        return pa.StructArray.from_arrays([terms, weights], [TERMS, WEIGHTS])

    def fresh(self) -> FreshRows:
        """Return a store of lists of rows by term."""
        return _FreshLists(self.reader.metric, self.reader.dimension)


def row_form(state: LiveState) -> RowForm:
    """Return what the rows of a live index are."""
    metric, model = pick_metric(state.metric), state.model.uri
    if pick_kind(state.kind).reads == "sparse":
        return SparseForm(SparseQueries(state.dimension, metric, model))
    normalized = bool(state.encoding.get("normalize"))
    return DenseForm(DenseQueries(state.dimension, metric, normalized, model))


def sealed_columns(table: pa.Table) -> pa.Table:
    """Return rows of the log with the columns of an embeddings artifact."""
    if not pa.types.is_struct(table.schema.field(VECTOR).type):
        return table
    terms, weights = table[VECTOR].combine_chunks().flatten()
    return table.drop_columns([VECTOR]).append_column(TERMS, terms).append_column(WEIGHTS, weights)


def log_columns(table: pa.Table) -> pa.Table:
    """Return rows of a segment with the column that the log has."""
    if VECTOR in table.column_names:
        return table
    lists = [table[name].combine_chunks() for name in (TERMS, WEIGHTS)]
    pairs = pa.StructArray.from_arrays(lists, [TERMS, WEIGHTS])
    return table.drop_columns([TERMS, WEIGHTS]).append_column(VECTOR, pairs)


class _FreshVectors:
    """Fresh rows that are vectors [N, D]."""

    def __init__(self, metric: Metric, dimension: int) -> None:
        self._metric = metric
        self._count = 0
        self._prepared: Floats = np.empty((0, dimension), dtype=np.float32)
        self._greatest_norm = 0.0

    def add(self, table: pa.Table) -> None:
        flat = table[VECTOR].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        prepared = self._metric.prepare(flat.reshape(table.num_rows, -1))
        end = self._count + len(prepared)
        self._prepared = grown(self._prepared, end)
        self._prepared[self._count : end] = prepared
        self._count = end
        norms = np.linalg.norm(prepared, axis=1)
        self._greatest_norm = max(self._greatest_norm, float(norms.max(initial=0)))

    def nearest(self, queries: Floats, living: Living, k: int) -> Iterator[Found]:
        rows = np.flatnonzero(living)
        vectors = self._prepared[rows]
        for query in queries:
            near = self._near(query, vectors, k)
            keys = self._metric.exact_keys(query[None], vectors[near][None])[0]
            yield rows[near], self._metric.scores(keys)

    def _near(self, query: Floats, vectors: Floats, k: int) -> Any:
        """Return all rows that may be among the `k` best, given how far float32 keys are off."""
        if self._metric.name not in {"cosine", "dot"} or len(vectors) <= k:
            return np.arange(len(vectors))
        keys = vectors @ query
        kth = np.partition(keys, len(keys) - k)[len(keys) - k]
        tolerance = self._metric.tolerance(query[None], self._greatest_norm)[0]
        return np.flatnonzero(keys >= kth - 2 * tolerance)


class _FreshLists:
    """Fresh rows that are sparse [N, V]; a row without a term of the query is not found."""

    def __init__(self, metric: Metric, dimension: int) -> None:
        self._metric = metric
        self._dimension = dimension
        self._parts: list[Any] = []
        self._turned: tuple[int, Any] = (0, sparse.csr_array((dimension, 0), dtype=np.float64))

    def add(self, table: pa.Table) -> None:
        rows = sparse_rows(sealed_columns(table), "log", self._dimension)
        self._parts.append(prepare_sparse(rows, self._metric))

    def nearest(self, queries: Any, living: Living, k: int) -> Iterator[Found]:
        products = (queries.astype(np.float64) @ self._by_term()).tocsr()
        for query in range(products.shape[0]):
            span = slice(products.indptr[query], products.indptr[query + 1])
            rows, scores = products.indices[span], products.data[span].astype(np.float32)
            kept = (rows < len(living)) & (scores > 0)
            kept[kept] = living[rows[kept]]
            rows, scores = rows[kept].astype(np.int64), scores[kept]
            if len(rows) > k:
                best = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
                rows, scores = rows[best], scores[best]
            yield rows, scores

    def _by_term(self) -> Any:
        """Return the rows turned, [V, N], made anew when rows have come."""
        known, turned = self._turned
        if known < len(self._parts):
            parts = list(self._parts)  # the writer may add more meanwhile
            later = sparse.vstack(parts[known:]).astype(np.float64).T
            turned = sparse.hstack([turned, later]).tocsr()
            self._turned = (len(parts), turned)
        return turned


def grown(array: Any, length: int) -> Any:
    """Return the array, or a longer copy; a reader of the shorter one keeps what it has."""
    if length <= len(array):
        return array
    longer = np.empty((max(length, 2 * len(array), 256), *array.shape[1:]), dtype=array.dtype)
    longer[: len(array)] = array
    return longer
