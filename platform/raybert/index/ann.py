"""Approximate search in one shard: FAISS's HNSW graph and inverted file, by effort.

The effort is how far a search looks: for HNSW the candidates kept while walking the graph, for IVF
the lists read. It is chosen at building by measured recall. Shapes: Q queries, K results, N rows,
D width.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from raybert.index.filters import Mask
from raybert.index.metric import Floats, Metric, Rows
from raybert.vectors import TopK, best
from raybert.vectors.topk import MISSING

_faiss: Any = faiss
"""FAISS without its type stubs, which lack what is used of it here."""
_LINKS = 32
_BUILD_EFFORT = 200
_ROWS_A_LIST = 39
"""FAISS wants that many training rows a list; below, a list's centre means little."""


class GraphShard:
    """Search by HNSW; what it finds is scored again exactly.

    Args:
        engine: a FAISS HNSW index over a flat storage.
        metric: the metric it was built with.
    """

    def __init__(self, engine: Any, metric: Metric) -> None:
        self._engine = engine
        self._metric = metric
        self._storage: Any = faiss.downcast_index(engine.storage)
        self.effort = int(engine.hnsw.efSearch)

    def __len__(self) -> int:
        return int(self._engine.ntotal)

    @property
    def vectors(self) -> Floats:
        """The vectors [N, D], a view of the engine's own; keep the shard while you use it."""
        length, width = self._engine.ntotal, self._engine.d
        flat: Floats = faiss.rev_swig_ptr(self._storage.get_xb(), length * width)
        return flat.reshape(length, width)

    def search(self, queries_QD: Floats, k: int, allowed: Mask | None = None) -> TopK:
        """Return the `k` best rows found, of those allowed.

        The walk meets rows that may not be found too, so it goes on as long as it takes to meet
        the usual number of the others; where comparing with all of these is less work, it does.
        """
        count, selector = allowed_rows(allowed, len(self))
        k = min(k, count)
        if not k:
            return TopK.empty(len(queries_QD), 0)
        reach = max(self.effort, k) * len(self) // count
        if allowed is not None and count <= reach * _LINKS:
            parameters = _faiss.SearchParameters(sel=selector)
            _, rows = self._storage.search(queries_QD, k, params=parameters)
        else:
            parameters = _faiss.SearchParametersHNSW(efSearch=reach, sel=selector)
            _, rows = self._engine.search(queries_QD, k, params=parameters)
        keys = self._metric.exact_keys(queries_QD, self.vectors[np.maximum(rows, 0)])
        return found_rows(self._metric, keys, rows, k)


class ListShard:
    """Search by IVF: the lists whose centres are nearest are read whole.

    Args:
        engine: a FAISS inverted file index over flat vectors.
        metric: the metric it was built with.
    """

    def __init__(self, engine: Any, metric: Metric) -> None:
        self._engine = engine
        self._metric = metric
        self.effort = int(engine.nprobe)

    def __len__(self) -> int:
        return int(self._engine.ntotal)

    def search(self, queries_QD: Floats, k: int, allowed: Mask | None = None) -> TopK:
        """Return the `k` best rows found, of those allowed: the fewer, the more lists are read."""
        count, selector = allowed_rows(allowed, len(self))
        k = min(k, count)
        if not k:
            return TopK.empty(len(queries_QD), 0)
        lists = min(-(-self.effort * len(self) // count), int(self._engine.nlist))
        parameters = _faiss.SearchParametersIVF(nprobe=lists, sel=selector)
        raw, rows = self._engine.search(queries_QD, k, params=parameters)
        return found_rows(self._metric, self._metric.keys(raw).astype(np.float64), rows, k)


def allowed_rows(allowed: Mask | None, rows: int) -> tuple[int, Any]:
    """Return how many rows may be found, and FAISS's selector of them (None selects all)."""
    if allowed is None:
        return rows, None
    return int(allowed.sum()), _faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def found_rows(metric: Metric, keys: Any, rows: Rows, k: int) -> TopK:
    """Return candidates in order; FAISS marks a place it could not fill with row -1."""
    scores = np.where(rows < 0, -np.inf, metric.scores(keys)).astype(np.float32)
    return best(scores, np.where(rows < 0, MISSING, rows), k)


def build_graph(vectors_ND: Floats, metric: Metric) -> Any:
    """Return an HNSW index (Malkov and Yashunin, arXiv:1603.09320) over prepared vectors."""
    engine = faiss.IndexHNSWFlat(vectors_ND.shape[1], _LINKS, metric.code)
    engine.hnsw.efConstruction = _BUILD_EFFORT
    engine.add(vectors_ND)
    return engine


def build_lists(vectors_ND: Floats, metric: Metric) -> Any:
    """Return an IVF index over prepared vectors: about 4 sqrt(N) lists, trained on the shard."""
    rows, width = vectors_ND.shape
    lists = max(1, min(int(4 * rows**0.5), rows // _ROWS_A_LIST))
    quantizer = faiss.IndexFlat(width, metric.code)
    engine = faiss.IndexIVFFlat(quantizer, width, lists, metric.code)
    engine.train(vectors_ND)
    engine.add(vectors_ND)
    return engine
