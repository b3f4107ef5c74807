"""Sparse statistics: how many dimensions are active, and what a score costs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from raybert.evaluation.metrics import Metrics


def is_sparse(vectors: Any) -> bool:
    """Say whether vectors are a sparse tensor."""
    return isinstance(vectors, Tensor) and vectors.layout != torch.strided


class SparsityCount:
    """Counts active dimensions over blocks of sparse rows; dense blocks count nothing."""

    def __init__(self) -> None:
        self._rows = 0
        self._width = 0
        self._active = torch.zeros(0)

    def add(self, vectors: Any) -> None:
        """Count one block [B, V]."""
        if not is_sparse(vectors):
            return
        coordinates = vectors.to_sparse_coo().coalesce()
        kept = coordinates.indices()[1][coordinates.values() != 0].cpu()
        if self._width == 0:
            self._width = int(vectors.shape[1])
            self._active = torch.zeros(self._width, dtype=torch.float64)
        self._active += torch.bincount(kept, minlength=self._width)
        self._rows += int(vectors.shape[0])

    @property
    def rows(self) -> int:
        """Rows counted."""
        return self._rows

    def metrics(self, prefix: str = "") -> Metrics:
        """Return mean active dimensions of a row, and the share of dimensions that is zero."""
        if not self._rows:
            return {}
        active = float(self._active.sum()) / self._rows
        return {
            f"{prefix}active_dims": active,
            f"{prefix}sparsity_ratio": 1 - active / self._width,
        }

    def products(self, other: SparsityCount) -> float:
        """Return the mean number of dimensions active in both of a pair of rows."""
        return float((self._active / self._rows) @ (other._active / other._rows))


class QueryCorpusStatistics:
    """Statistics of sparse queries against a sparse corpus; nothing for dense ones."""

    def __init__(self, queries: Any) -> None:
        self._queries = SparsityCount()
        self._queries.add(queries)
        self._corpus = SparsityCount()

    def add(self, block: Any) -> None:
        """Count one block of the corpus."""
        self._corpus.add(block)

    def metrics(self) -> Metrics:
        """Return the statistics of both sides, and `avg_flops`."""
        if not self._queries.rows or not self._corpus.rows:
            return {}
        return (
            self._queries.metrics("query_")
            | self._corpus.metrics("corpus_")
            | {"avg_flops": self._queries.products(self._corpus)}
        )


def query_corpus_statistics(queries: Any) -> QueryCorpusStatistics:
    """Start the statistics of a retrieval."""
    return QueryCorpusStatistics(queries)
