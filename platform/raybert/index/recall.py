"""Measured recall: what an index finds of what an exact search finds, on probe queries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from raybert.index.metric import Floats, Rows
from raybert.index.search import Index
from raybert.index.source import Embeddings
from raybert.vectors import TopK, exact_topk

PROBES = 200
AT = 10
_SPARE = 16
_EQUAL = 1e-6


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall at `at` over `probes` rows of the corpus, each looking for its neighbours.

    Args:
        value: mean share of the exact `at` nearest that the index found, 0 to 1.
        at: neighbours asked for, the probe itself left out.
        probes: number of probe queries.
        milliseconds: mean time of a query, all probes asked at once.
    """

    value: float
    at: int
    probes: int
    milliseconds: float

    def as_dict(self) -> dict[str, float]:
        """Return it for the manifest."""
        return asdict(self)


def measure_recall(index: Index, source: Embeddings, *, probes: int = PROBES) -> Recall:
    """Compare the index with an exact search over the embeddings it was built from.

    A neighbour that ties with the last exact one counts as found.
    """
    at = min(AT, len(index) - 1)
    if at < 1 or probes < 1:
        return Recall(1.0, at, 0, 0.0)
    chosen = _chosen(len(index), probes)
    ids, probe_QD = _probes(source, chosen)
    exact = _exact(source, probe_QD, at + 1 + _SPARE, index.metric.name)
    started = time.perf_counter()
    found = index.search(probe_QD, at + 1)
    seconds = time.perf_counter() - started
    all_ids = pa.chunked_array([part for part, _ in source.tables()])
    shares = [
        _share(
            {hit.id for hit in hits} - {own},
            [
                (all_ids[int(row)].as_py(), float(score))
                for score, row in zip(exact.scores[query], exact.orders[query], strict=True)
                if row >= 0 and row != chosen[query]
            ],
            at,
        )
        for query, (own, hits) in enumerate(zip(ids, found, strict=True))
    ]
    return Recall(float(np.mean(shares)), at, len(chosen), 1000 * seconds / len(chosen))


def _chosen(rows: int, probes: int) -> list[int]:
    """Pick rows by a fixed seed: the same probes for every kind built from one corpus."""
    drawn = np.random.default_rng(0).choice(rows, size=min(probes, rows), replace=False)
    return sorted(int(row) for row in drawn)


def _probes(source: Embeddings, rows: list[int]) -> tuple[list[str], Floats]:
    wanted = np.asarray(rows)
    ids: list[str] = []
    vectors: list[Floats] = []
    start = 0
    for part, block in source.tables():
        here = wanted[(wanted >= start) & (wanted < start + len(block))] - start
        ids.extend(part[int(row)].as_py() for row in here)
        vectors.append(block[here])
        start += len(block)
    return ids, np.concatenate(vectors)


def _exact(source: Embeddings, queries: Floats, k: int, metric: str) -> TopK:
    def blocks() -> Iterator[tuple[Floats, Rows]]:
        start = 0
        for _, block in source.tables():
            yield block, np.arange(start, start + len(block), dtype=np.int64)
            start += len(block)

    return exact_topk(queries, blocks(), k, similarity=metric)


def _share(found: set[str], exact: list[tuple[str, float]], at: int) -> float:
    """Return the share of the `at` nearest that was found; `exact` may hold more, best first."""
    last = exact[at - 1][1]
    tolerance = _EQUAL * (1 + abs(last))
    allowed = {identifier for identifier, score in exact if score >= last - tolerance}
    return min(len(found & allowed), at) / at
