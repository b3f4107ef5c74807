"""Metrics: what a similarity is to FAISS, and the exact score of a found row.

FAISS ranks by a *key*: the product for cosine and dot, the negative squared distance for
euclidean, the negative distance for manhattan; higher is better throughout. Its float32 keys
depend in the last bits on how many queries are asked at once, so what it finds is scored again,
pair by pair in float64 and rounded once. Shapes: Q queries, C candidates, N rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import faiss
import numpy as np
import numpy.typing as npt

from raybert.errors import InputError

Floats: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.int64]

_QUERIES_AT_ONCE = 64
_ROUNDING = 2.0**-23


@dataclass(frozen=True, slots=True)
class Metric:
    """One similarity as FAISS computes it.

    Args:
        name: cosine, dot, euclidean or manhattan.
        code: the FAISS metric.
    """

    name: str
    code: int

    def prepare(self, vectors: npt.NDArray[Any]) -> Floats:
        """Return float32 rows ready for FAISS: for cosine of length 1, a zero row staying zero."""
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        if self.name != "cosine":
            return rows
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        unit: Floats = (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
        return unit

    def keys(self, engine_scores: Floats) -> Floats:
        """Turn what FAISS returns (distances: lower is better) into keys."""
        return engine_scores if self.code == faiss.METRIC_INNER_PRODUCT else -engine_scores

    def exact_keys(self, queries_QD: Floats, found_QCD: Floats) -> npt.NDArray[np.float64]:
        """Return the keys [Q, C] of candidates, each summed in float64 on its own."""
        keys = np.empty(found_QCD.shape[:2], dtype=np.float64)
        for start in range(0, len(queries_QD), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            keys[part] = self._keys(queries_QD[part].astype(np.float64), found_QCD[part])
        return keys

    def scores(self, keys: npt.NDArray[np.float64]) -> Floats:
        """Return the similarities that keys stand for."""
        if self.name != "euclidean":
            return keys.astype(np.float32)
        return (-np.sqrt(np.maximum(-keys, 0))).astype(np.float32)

    def tolerance(self, queries_QD: Floats, greatest_norm: float) -> npt.NDArray[np.float64]:
        """Return how far a float32 key of each query may be off, [Q] (a bound, not a guess)."""
        lengths = np.linalg.norm(queries_QD.astype(np.float64), axis=1)
        width = queries_QD.shape[1]
        if self.code == faiss.METRIC_INNER_PRODUCT:
            return np.asarray(width * _ROUNDING * lengths * greatest_norm)
        if self.code == faiss.METRIC_L2:
            return np.asarray(width * _ROUNDING * (lengths + greatest_norm) ** 2)
        return np.asarray(width**1.5 * _ROUNDING * (lengths + greatest_norm))

    def _keys(self, queries: npt.NDArray[np.float64], found: Floats) -> npt.NDArray[np.float64]:
        rows = found.astype(np.float64)
        if self.code == faiss.METRIC_INNER_PRODUCT:
            return np.asarray(np.einsum("qd,qcd->qc", queries, rows))
        rows -= queries[:, None, :]
        if self.code == faiss.METRIC_L2:
            return np.asarray(-np.einsum("qcd,qcd->qc", rows, rows))
        return np.asarray(-np.abs(rows).sum(axis=-1))


METRICS = {
    "cosine": Metric("cosine", faiss.METRIC_INNER_PRODUCT),
    "dot": Metric("dot", faiss.METRIC_INNER_PRODUCT),
    "euclidean": Metric("euclidean", faiss.METRIC_L2),
    "manhattan": Metric("manhattan", faiss.METRIC_L1),
}


def pick_metric(name: str) -> Metric:
    """Return the metric called `name`.

    Raises:
        InputError: there is no such metric; the message lists those there are.
    """
    if name not in METRICS:
        raise InputError(f"metric {name!r}: allowed are {', '.join(METRICS)}")
    return METRICS[name]
