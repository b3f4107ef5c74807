"""Exact search in one shard: a FAISS flat index, with ties broken by row.

Where similarity is a product, torch multiplies what FAISS holds by several queries at once.
Rows of a shard are sorted by id, so the smaller row is the smaller id. Shapes: Q queries,
C candidates, K results, N rows, D width.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from raybert.index.ann import allowed_rows
from raybert.index.filters import Mask
from raybert.index.metric import Floats, Metric, Rows
from raybert.vectors import TopK, best
from raybert.vectors.products import are_plain, greatest_products

_faiss: Any = faiss
_SPARE = 8
_SCAN_ROWS = 16384
_MANY = 4
"""Queries from which on a matrix product is quicker than a walk along the rows for each."""


class FlatShard:
    """All vectors of a shard, compared one by one.

    Args:
        engine: a FAISS flat index, in memory or memory-mapped.
        metric: the metric it was built with.
        greatest_norm: length of the longest vector, which bounds the rounding of float32 keys.
    """

    def __init__(self, engine: Any, metric: Metric, greatest_norm: float) -> None:
        self._engine = engine
        self._metric = metric
        self._greatest_norm = greatest_norm
        self.effort = 0

    def __len__(self) -> int:
        return int(self._engine.ntotal)

    @property
    def vectors(self) -> Floats:
        """The vectors [N, D], a view of the engine's own; keep the shard while you use it."""
        length, width = self._engine.ntotal, self._engine.d
        flat: Floats = faiss.rev_swig_ptr(self._engine.get_xb(), length * width)
        return flat.reshape(length, width)

    def search(self, queries_QD: Floats, k: int, allowed: Mask | None = None) -> TopK:
        """Return the `k` best allowed rows of every query: exact scores, equal scores by row."""
        count = len(self) if allowed is None else int(allowed.sum())
        k, fetch = min(k, count), min(k + _SPARE, count)
        if not k:
            return TopK.empty(len(queries_QD), 0)
        near, rows = self._near(queries_QD, fetch, allowed)
        keys = self._metric.exact_keys(queries_QD, self.vectors[rows])
        found = best(self._metric.scores(keys), rows, k)
        if fetch < count:
            # a row that was not fetched may equal or beat the K-th where their keys are this near
            kth = np.partition(keys, fetch - k, axis=1)[:, fetch - k]
            tolerance = self._metric.tolerance(queries_QD, self._greatest_norm)
            for query in np.flatnonzero(kth - near.min(axis=1) <= tolerance):
                settled = self._scan(queries_QD[query : query + 1], k, allowed)
                found.scores[query], found.orders[query] = settled.scores[0], settled.orders[0]
        return found

    def _near(self, queries_QD: Floats, fetch: int, allowed: Mask | None) -> tuple[Floats, Rows]:
        """Return the float32 keys and rows, both [Q, C], of the nearest allowed rows."""
        many = allowed is None and len(queries_QD) >= _MANY
        if many and self._metric.code == faiss.METRIC_INNER_PRODUCT and are_plain():
            return greatest_products(queries_QD, self.vectors, fetch)
        _, selector = allowed_rows(allowed, len(self))
        parameters = None if selector is None else _faiss.SearchParameters(sel=selector)
        raw, rows = self._engine.search(queries_QD, fetch, params=parameters)
        return self._metric.keys(raw), rows

    def _scan(self, query_1D: Floats, k: int, allowed: Mask | None) -> TopK:
        """Score every allowed row of the shard exactly, in blocks; rare: many ties."""
        found = TopK.empty(1, k)
        for start in range(0, len(self), _SCAN_ROWS):
            block = self.vectors[start : start + _SCAN_ROWS]
            scores = self._metric.scores(self._metric.exact_keys(query_1D, block[None]))
            rows = np.arange(start, start + len(block), dtype=np.int64)[None]
            if allowed is not None:
                kept = allowed[start : start + len(block)]
                scores, rows = scores[:, kept], rows[:, kept]
            found = found.merge(best(scores, rows, k))
        return found


def build_flat(vectors_ND: Floats, metric: Metric) -> Any:
    """Return a FAISS flat index over prepared vectors."""
    engine = faiss.IndexFlat(vectors_ND.shape[1], metric.code)
    engine.add(vectors_ND)
    return engine
