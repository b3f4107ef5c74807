"""Probes for sparse kinds, and their neighbours by a plain sparse product.

A probe is a row of the corpus cut to its heaviest terms, about as many as a query has.
Shapes: Q probes, N rows, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from raybert.index.metric import Metric
from raybert.index.queries import prepare_sparse
from raybert.index.recall import AT, Probe
from raybert.index.source import Source
from raybert.vectors import TopK, best

_TERMS = 16
_SPARE = 16


def draw_sparse(source: Source, metric: Metric, probes: int) -> Probe:
    """Draw probes and find their neighbours by comparing with every row.

    Args:
        source: sparse rows.
        metric: dot or cosine.
        probes: how many; the same rows are drawn for every kind.
    """
    at = min(AT, source.rows)
    if not probes:
        return Probe(sparse.csr_array((0, 1), dtype=np.float32), [], at)
    drawn = np.random.default_rng(0).choice(source.rows, min(probes, source.rows), replace=False)
    queries = prepare_sparse(_cut(_rows_at(source, np.sort(drawn))), metric)
    ids = pa.chunked_array([part for part, _ in source.tables()]).combine_chunks()
    order = pc.sort_indices(ids).to_numpy().astype(np.int64)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    found, first = TopK.empty(queries.shape[0], min(at + _SPARE, source.rows)), 0
    for _, block in source.tables():
        rows = prepare_sparse(block, metric)
        own = ranks[first : first + rows.shape[0]]
        scores = (queries.astype(np.float64) @ rows.T.astype(np.float64)).toarray()
        orders = np.broadcast_to(own, scores.shape)
        found = found.merge(best(scores.astype(np.float32), orders, found.scores.shape[1]))
        first += rows.shape[0]
    neighbours = [
        [(ids[int(order[rank])].as_py(), float(s)) for s, rank in zip(*lists, strict=True) if s > 0]
        for lists in zip(found.scores, found.orders, strict=True)
    ]
    return Probe(queries, neighbours, at)


def _rows_at(source: Source, rows: Any) -> Any:
    """Return the rows of rising numbers, in one pass."""
    parts, first = [], 0
    for _, block in source.tables():
        inside = rows[(rows >= first) & (rows < first + block.shape[0])] - first
        parts.append(block[inside])
        first += block.shape[0]
    return sparse.vstack(parts).tocsr()


def _cut(rows: Any) -> Any:
    """Keep the heaviest terms of every row."""
    cut = rows.copy()
    for row in range(cut.shape[0]):
        own = cut.data[cut.indptr[row] : cut.indptr[row + 1]]
        if len(own) > _TERMS:
            own[np.argsort(own, kind="stable")[:-_TERMS]] = 0
    cut.eliminate_zeros()
    return cut
