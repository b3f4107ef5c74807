"""Quantized search in one shard: bytes or bits find candidates, stored vectors score them again.

The effort is how many candidates are fetched for each result. Stored vectors are memory-mapped:
only candidates are read from disk. Shapes: Q queries, C candidates, K results, N rows, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import numpy.typing as npt

from raybert.index.ann import allowed_rows, found_rows
from raybert.index.filters import Mask
from raybert.index.metric import Floats, Metric, Rows
from raybert.vectors import Ranges, TopK, dequantize, quantize

if TYPE_CHECKING:
    from raybert.index.hamming import BitRows

_faiss: Any = faiss
_LEAST_TRAINING = 16 * 39
_FLOATS_AT_ONCE = 1 << 18
"""Numbers of candidates that are scored together: they stay in a core's own cache."""
STORES = ("none", "int8", "float32")
"""What candidates are scored by: what found them, bytes on disk, or floats on disk."""


class Store:
    """Vectors to score candidates by.

    Args:
        stored: [N, D] float32, or uint8 with `ranges`; may be memory-mapped.
        ranges: the ranges of the bytes.
    """

    def __init__(self, stored: npt.NDArray[Any], ranges: Ranges | None) -> None:
        self._stored = stored
        self._ranges = ranges

    def keys(self, metric: Metric, queries_QD: Floats, rows_QC: Rows) -> npt.NDArray[np.float64]:
        """Return the exact keys [Q, C] of candidates, a few queries at a time; row -1 is any."""
        keys = np.empty(rows_QC.shape, np.float64)
        step = max(1, _FLOATS_AT_ONCE // max(1, rows_QC.shape[1] * queries_QD.shape[1]))
        for start in range(0, len(rows_QC), step):
            part = slice(start, start + step)
            vectors = self._vectors(np.maximum(rows_QC[part], 0))
            keys[part] = metric.exact_keys(queries_QD[part], vectors)
        return keys

    def _vectors(self, rows_QC: Rows) -> Floats:
        """Return float vectors [Q, C, D] of rows [Q, C]."""
        found = np.asarray(self._stored[rows_QC])
        if found.dtype == np.float32:
            return found
        return dequantize(found, "uint8", dimension=found.shape[-1], ranges=self._ranges)


class QuantizedShard:
    """Candidates by a quantized engine, then order by the store.

    Args:
        engine: a FAISS scalar quantizer or binary flat index.
        metric: the metric to rank by.
        store: vectors to score candidates by; None keeps the engine's own scores.
        binary: whether the engine compares bits.
    """

    def __init__(self, engine: Any, metric: Metric, store: Store | None, *, binary: bool) -> None:
        self._engine = engine
        self._metric = metric
        self._store = store
        self._bits = _bit_rows(engine) if binary else None
        self.effort = 1

    def __len__(self) -> int:
        return int(self._engine.ntotal)

    def search(self, queries_QD: Floats, k: int, allowed: Mask | None = None) -> TopK:
        """Return the `k` best rows found, of those allowed."""
        count = len(self) if allowed is None else int(allowed.sum())
        k = min(k, count)
        if not k:
            return TopK.empty(len(queries_QD), 0)
        if self._store is None:
            keys, rows = self._candidates(queries_QD, k, allowed)
            return found_rows(self._metric, keys.astype(np.float64), rows, k)
        _, rows = self._candidates(queries_QD, min(k * self.effort, count), allowed)
        return found_rows(self._metric, self._store.keys(self._metric, queries_QD, rows), rows, k)

    def _candidates(self, queries_QD: Floats, count: int, allowed: Mask | None) -> tuple[Any, Any]:
        """Return keys and rows of candidates; of bits the distances, negative."""
        if self._bits is not None:
            bits = quantize(queries_QD, "ubinary").astype(np.uint8, copy=False)
            distances, rows = self._bits.nearest(bits, count, allowed)
            return -distances, rows
        _, selector = allowed_rows(allowed, len(self))
        parameters = None if selector is None else _faiss.SearchParameters(sel=selector)
        raw, rows = self._engine.search(queries_QD, count, params=parameters)
        return self._metric.keys(raw), rows


class ProductShard:
    """Candidates by product quantization, then order by the store.

    FAISS takes no filter here, so more candidates are fetched where few rows may be found.

    Args:
        engine: a FAISS product quantizer index.
        metric: the metric to rank by.
        store: vectors to score candidates by; None keeps the engine's own scores.
    """

    def __init__(self, engine: Any, metric: Metric, store: Store | None) -> None:
        self._engine = engine
        self._metric = metric
        self._store = store
        self.effort = 1

    def __len__(self) -> int:
        return int(self._engine.ntotal)

    def search(self, queries_QD: Floats, k: int, allowed: Mask | None = None) -> TopK:
        """Return the `k` best rows found, of those allowed."""
        count = len(self) if allowed is None else int(allowed.sum())
        k = min(k, count)
        if not k:
            return TopK.empty(len(queries_QD), 0)
        wanted = min(count, k * (self.effort if self._store else 1))
        raw, rows = self._candidates(queries_QD, wanted, allowed, count)
        if self._store is None:
            return found_rows(self._metric, self._metric.keys(raw).astype(np.float64), rows, k)
        return found_rows(self._metric, self._store.keys(self._metric, queries_QD, rows), rows, k)

    def _candidates(
        self, queries_QD: Floats, wanted: int, allowed: Mask | None, count: int
    ) -> tuple[Any, Any]:
        padded = _padded(queries_QD)
        if allowed is None:
            raw, rows = self._engine.search(padded, wanted)
            return raw, rows
        fetch = min(len(self), 2 * wanted * len(self) // count)
        while True:
            raw, rows = self._engine.search(padded, fetch)
            passed = allowed[np.maximum(rows, 0)] & (rows >= 0)
            if fetch == len(self) or (passed.sum(axis=1) >= wanted).all():
                return raw, np.where(passed, rows, -1)
            fetch = min(len(self), 2 * fetch)


def build_products(vectors_ND: Floats, metric: Metric) -> Any:
    """Return a FAISS product quantizer: 4 bits for every two dimensions, one byte for four.

    Product quantization is Jégou, Douze and Schmid (TPAMI 2011); 4-bit codes are compared in
    registers (André, Kermarrec and Le Scouarnec, VLDB 2015).
    """
    padded = _padded(vectors_ND)
    engine = faiss.IndexPQFastScan(padded.shape[1], padded.shape[1] // 2, 4, metric.code)
    engine.train(np.resize(padded, (max(len(padded), _LEAST_TRAINING), padded.shape[1])))
    engine.add(padded)
    return engine


def _padded(vectors_ND: Floats) -> Floats:
    """Add zero dimensions up to a multiple of 4, which change no product and no distance."""
    short = -vectors_ND.shape[1] % 4
    return np.ascontiguousarray(np.pad(vectors_ND, ((0, 0), (0, short))))


def build_bytes(vectors_ND: Floats, metric: Metric, ranges: Ranges) -> Any:
    """Return a FAISS index of one byte a dimension, cut by the whole corpus's ranges.

    FAISS reads a byte as `dequantize(…, "uint8")` does, so it is given those bytes as they are.
    """
    engine = faiss.IndexScalarQuantizer(
        vectors_ND.shape[1], faiss.ScalarQuantizer.QT_8bit, metric.code
    )
    spans = np.where(ranges.high > ranges.low, ranges.high - ranges.low, np.float32(255))
    faiss.copy_array_to_vector(np.concatenate([ranges.low, spans]), engine.sq.trained)
    engine.is_trained = True
    engine.add_sa_codes(quantize(vectors_ND, "uint8", ranges).astype(np.uint8, copy=False))
    return engine


def build_bits(vectors_ND: Floats) -> Any:
    """Return a FAISS index of one bit a dimension, compared by Hamming distance."""
    bits = quantize(vectors_ND, "ubinary").astype(np.uint8, copy=False)
    engine = faiss.IndexBinaryFlat(bits.shape[1] * 8)
    engine.add(bits)
    return engine


def _bit_rows(engine: Any) -> BitRows:
    """Return the bits of a binary index, a view of its own; keep it while you use them."""
    from raybert.index.hamming import BitRows  # Numba takes long to import

    rows, width = int(engine.ntotal), int(engine.code_size)
    return BitRows(faiss.rev_swig_ptr(engine.xb.data(), rows * width).reshape(rows, width))


def stored_vectors(vectors_ND: Floats, store: str, ranges: Ranges | None) -> npt.NDArray[Any]:
    """Return what a store keeps of prepared vectors."""
    return vectors_ND if store == "float32" else quantize(vectors_ND, "uint8", ranges)
