"""Queries as an index takes them: vectors, sparse rows, or texts for BM25.

Shapes: Q queries, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from raybert.errors import InputError
from raybert.index.metric import Floats, Metric, pick_metric

Queries: TypeAlias = Any
"""[Q, D] vectors or one [D]; sparse rows [Q, V]; one text or several."""


class QueryReader(Protocol):
    """What turns queries into rows that shards take."""

    def __call__(self, queries: Queries) -> Any:
        """Return prepared rows, one a query.

        Raises:
            InputError: another width, values that are not finite, something else altogether.
        """
        ...


@dataclass(frozen=True, slots=True)
class DenseQueries:
    """Vectors.

    Args:
        dimension: their width D.
        metric: the similarity the index ranks by.
        normalized: whether documents were scaled to length 1 when they were encoded.
        model: the model they must come from, for messages.
    """

    dimension: int
    metric: Metric
    normalized: bool
    model: str

    def __call__(self, queries: Queries) -> Floats:
        """Return [Q, D] rows as the metric prepares them."""
        rows: npt.NDArray[Any] = np.atleast_2d(np.asarray(queries))
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise InputError(
                f"queries of shape {np.shape(queries)}: this index holds vectors "
                f"{self.dimension} wide, of the model {self.model}"
            )
        if not np.isfinite(rows).all():
            bad = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise InputError(f"query {bad} holds NaN or infinite values")
        if self.normalized and self.metric.name != "cosine":
            # documents were scaled to length 1 when they were encoded: so must the queries be
            rows = pick_metric("cosine").prepare(rows)
        return self.metric.prepare(rows)


@dataclass(frozen=True, slots=True)
class SparseQueries:
    """Sparse rows: SciPy rows, a sparse tensor, or a dense array of weights.

    Args:
        dimension: their width V.
        metric: dot or cosine.
        model: the model they must come from, for messages.
    """

    dimension: int
    metric: Metric
    model: str

    def __call__(self, queries: Queries) -> Any:
        """Return [Q, V] compressed rows, weights above 0 only."""
        rows = compressed(queries)
        if rows.shape[1] != self.dimension:
            raise InputError(
                f"queries of shape {tuple(rows.shape)}: this index holds sparse vectors over "
                f"{self.dimension} terms, of the model {self.model}"
            )
        refuse_weights(rows, lambda row: f"query {row}")
        return prepare_sparse(rows, self.metric)


@dataclass(frozen=True, slots=True)
class TextQueries:
    """Texts, cut into the words of the index.

    Args:
        counted: texts to rows [Q, V] of how often each known word stands in them.
        rows: for rows that are counted already.
    """

    counted: Callable[[list[str]], Any]
    rows: SparseQueries

    def __call__(self, queries: Queries) -> Any:
        """Return [Q, V] compressed rows of word counts."""
        if isinstance(queries, str):
            queries = [queries]
        if sparse.issparse(queries):
            return self.rows(queries)
        texts = list(queries)
        for at, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"query {at} is {type(text).__name__}: this index takes texts")
        return self.counted(texts)


def compressed(rows: Any) -> Any:
    """Return sparse or dense rows, a tensor or an array, as SciPy compressed rows [N, V].

    Raises:
        InputError: they have not one or two dimensions.
    """
    if hasattr(rows, "is_sparse"):
        tensor = rows.detach().cpu()
        tensor = tensor[None] if tensor.ndim == 1 else tensor
        if tensor.is_sparse:
            tensor = tensor.coalesce()
            values, places = tensor.values().float().numpy(), tensor.indices().numpy()
            rows = sparse.coo_array((values, tuple(places)), shape=tuple(tensor.shape))
        else:
            rows = tensor.float().numpy()
    if not sparse.issparse(rows):
        rows = np.atleast_2d(np.asarray(rows, dtype=np.float32))
    if rows.ndim != 2:
        raise InputError(f"sparse vectors of shape {rows.shape}: [V] or [N, V] is expected")
    found = sparse.csr_array(rows, dtype=np.float32, copy=True)
    found.sum_duplicates()
    found.eliminate_zeros()
    return found


def refuse_weights(rows_NV: Any, name: Callable[[int], str]) -> None:
    """Refuse weights that are not finite or below 0, whose products bound no sum.

    Raises:
        InputError: the first row that holds one is named by `name`.
    """
    bad = np.flatnonzero(~(np.isfinite(rows_NV.data) & (rows_NV.data >= 0)))
    if len(bad):
        row = int(np.searchsorted(rows_NV.indptr, bad[0], side="right")) - 1
        raise InputError(
            f"{name(row)}: weight {rows_NV.data[bad[0]]}: finite weights of at least 0 are allowed"
        )


def prepare_sparse(rows_NV: Any, metric: Metric) -> Any:
    """Return rows as they are, or for cosine scaled to length 1 (a zero row stays zero)."""
    if metric.name != "cosine":
        return rows_NV
    squares = rows_NV.astype(np.float64).power(2).sum(axis=1)
    scale = 1 / np.maximum(np.sqrt(squares), 1e-12)
    scaled = rows_NV.copy()
    scaled.data = (scaled.data * np.repeat(scale, np.diff(scaled.indptr))).astype(np.float32)
    return scaled
