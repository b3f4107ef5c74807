"""Measured recall: what an index finds of what an exact search finds, on probe queries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybert.index.metric import Floats, Rows
from raybert.index.search import Index
from raybert.index.source import Embeddings, Ids
from raybert.vectors import TopK, exact_topk

PROBES = 200
AT = 10
_SPARE = 16
_EQUAL = 1e-6


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall at `at` over `probes` rows of the corpus, each looking for its neighbours.

    Args:
        value: mean share of the exact `at` nearest that the index found, 0 to 1; None where
            nothing was measured.
        at: neighbours asked for, the probe itself left out.
        probes: number of probe queries.
        milliseconds: mean time of a query, all probes asked at once.
        effort: the effort it was measured at.
    """

    value: float | None
    at: int
    probes: int
    milliseconds: float
    effort: int

    def as_dict(self) -> dict[str, float | None]:
        """Return it for the manifest."""
        return asdict(self)

    def reaches(self, target: float) -> bool:
        """Say whether recall is at least `target`; what was not measured is not."""
        return self.value is not None and self.value >= target


@dataclass(frozen=True, slots=True)
class Probe:
    """Probe queries and their exact neighbours.

    Args:
        ids: the probes.
        queries: their vectors [Q, D].
        neighbours: of each probe, ids and scores of its nearest, best first, itself left out.
        at: how many neighbours are looked for.
    """

    ids: list[str]
    queries: Floats
    neighbours: list[list[tuple[str, float]]]
    at: int

    @classmethod
    def draw(cls, source: Embeddings, metric: str, probes: int = PROBES) -> Probe:
        """Take `probes` rows of the corpus and find their neighbours by comparing with all rows.

        The rows are drawn by a fixed seed: the same for every kind built from one corpus.
        """
        rows = source.manifest.rows
        at = min(AT, rows - 1)
        count = min(probes, rows) if at else 0
        drawn = np.random.default_rng(0).choice(rows, size=count, replace=False)
        chosen = sorted(int(row) for row in drawn)
        if not chosen:
            return cls([], np.zeros((0, 0), dtype=np.float32), [], at)
        ids, queries = _rows(source, chosen)
        sorted_ids, ranks = _ranks(source)
        exact = _exact(source, ranks, queries, min(at + 1 + _SPARE, rows), metric)
        neighbours = [
            [
                (sorted_ids[int(rank)].as_py(), float(score))
                for score, rank in zip(scores, orders, strict=True)
                if ids[query] != sorted_ids[int(rank)].as_py()
            ]
            for query, (scores, orders) in enumerate(zip(exact.scores, exact.orders, strict=True))
        ]
        return cls(ids, queries, neighbours, at)

    def measure(self, index: Index) -> Recall:
        """Compare an index with the exact search; what ties with the last neighbour counts too."""
        if not self.ids:
            return Recall(None, self.at, 0, 0.0, index.effort)
        started = time.perf_counter()
        found = index.search(self.queries, self.at + 1)
        seconds = time.perf_counter() - started
        shares = [
            _share([hit.id for hit in hits if hit.id != own][: self.at], exact, self.at)
            for own, hits, exact in zip(self.ids, found, self.neighbours, strict=True)
        ]
        count = len(self.ids)
        return Recall(float(np.mean(shares)), self.at, count, 1000 * seconds / count, index.effort)


def _rows(source: Embeddings, rows: list[int]) -> tuple[list[str], Floats]:
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


def _ranks(source: Embeddings) -> tuple[Ids, Rows]:
    """Return all ids in ascending order, and the place there of every row: ties go by it."""
    ids = pa.chunked_array([part for part, _ in source.tables()]).combine_chunks()
    order = pc.sort_indices(ids)
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[order.to_numpy()] = np.arange(len(ids))
    return ids.take(order), ranks


def _exact(source: Embeddings, ranks: Rows, queries: Floats, k: int, metric: str) -> TopK:
    def blocks() -> Iterator[tuple[Floats, Rows]]:
        start = 0
        for _, block in source.tables():
            yield block, ranks[start : start + len(block)]
            start += len(block)

    return exact_topk(queries, blocks(), k, similarity=metric)


def _share(found: list[str], exact: list[tuple[str, float]], at: int) -> float:
    """Return the share of the `at` nearest that was found; `exact` may hold more, best first."""
    last = exact[at - 1][1]
    tolerance = _EQUAL * (1 + abs(last))
    allowed = {identifier for identifier, score in exact if score >= last - tolerance}
    return len(allowed.intersection(found)) / at
