"""Measured recall: what an index finds of what an exact search finds, on probe queries.

Rows of the corpus make poor probes: a graph leads straight to what it holds. A probe is therefore a
row moved by the difference of two other rows that are nearest neighbours: a point where a new
text's vector might lie.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybert.index.metric import Floats, Metric, Rows, pick_metric
from raybert.index.search import Index
from raybert.index.source import Ids, Source
from raybert.vectors import TopK, exact_topk

PROBES = 200
AT = 10
_SPARE = 16
_EQUAL = 1e-6


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall at `at` over `probes` queries.

    Args:
        value: mean share of the exact `at` nearest that the index found, 0 to 1; None where
            nothing was measured.
        at: neighbours asked for.
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
        queries: the probes [Q, D] or [Q, V].
        neighbours: ids and scores of each probe's nearest, best first, some more than `at`.
        at: how many neighbours are looked for.
    """

    queries: Any
    neighbours: list[list[tuple[str, float]]]
    at: int

    @classmethod
    def draw(cls, source: Source, metric: str, probes: int = PROBES) -> Probe:
        """Draw probes and find their neighbours by comparing with every row of the corpus.

        They are drawn by a fixed seed: the same for every kind built from one corpus.
        """
        rows = source.rows
        at = min(AT, rows)
        if not probes:
            return cls(np.zeros((0, 0), dtype=np.float32), [], at)
        order, ids = sorted_ids(source)
        queries = _moved(source, order, pick_metric(metric), min(probes, rows))
        if source.encoding.get("normalize"):
            queries = pick_metric("cosine").prepare(queries)
        exact = _exact(source, order, queries, min(at + _SPARE, rows), metric)
        neighbours = [
            [(ids[int(rank)].as_py(), float(score)) for score, rank in zip(*lists, strict=True)]
            for lists in zip(exact.scores, exact.orders, strict=True)
        ]
        return cls(queries, neighbours, at)

    def measure(self, index: Index) -> Recall:
        """Compare an index with the exact search; what ties with the last neighbour counts too."""
        count = int(self.queries.shape[0])
        if not count:
            return Recall(None, self.at, 0, 0.0, index.effort)
        started = time.perf_counter()
        found = index.search(self.queries, self.at)
        seconds = time.perf_counter() - started
        shares = [
            _share([hit.id for hit in hits], exact, self.at)
            for hits, exact in zip(found, self.neighbours, strict=True)
        ]
        return Recall(float(np.mean(shares)), self.at, count, 1000 * seconds / count, index.effort)


def sorted_ids(source: Source) -> tuple[Rows, Ids]:
    """Return rows by ascending id, and the ids in that order: ties go by it."""
    ids = pa.chunked_array([part for part, _ in source.tables()]).combine_chunks()
    order = pc.sort_indices(ids)
    return order.to_numpy().astype(np.int64), ids.take(order)


def _moved(source: Source, order: Rows, metric: Metric, count: int) -> Floats:
    """Return `count` rows, each moved by the difference of another drawn row and its nearest."""
    rows = len(order)
    drawn = np.random.default_rng(0).choice(rows, size=count, replace=False)
    starts = metric.prepare(_at(source, drawn))
    if rows < 2:
        return starts
    exact = _exact(source, order, starts, 2, metric.name)
    pairs = order[exact.orders]
    nearest = np.where(pairs[:, 0] == drawn, pairs[:, 1], pairs[:, 0])
    differences = starts - metric.prepare(_at(source, nearest))
    moved: Floats = starts + np.roll(differences, 1, axis=0)
    return moved


def _at(source: Source, rows: Rows) -> Floats:
    """Return the vectors of rows, in the order asked, in one pass."""
    found: Floats | None = None
    start = 0
    for _, block in source.tables():
        if found is None:
            found = np.empty((len(rows), block.shape[1]), dtype=np.float32)
        here = (rows >= start) & (rows < start + len(block))
        found[here] = block[rows[here] - start]
        start += len(block)
    assert found is not None, "embeddings have at least one row"
    return found


def _exact(source: Source, order: Rows, queries: Floats, k: int, metric: str) -> TopK:
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))

    def blocks() -> Iterator[tuple[Floats, Rows]]:
        start = 0
        for _, block in source.tables():
            yield block, ranks[start : start + len(block)]
            start += len(block)

    return exact_topk(queries, blocks(), k, similarity=metric)


def _share(found: list[str], exact: list[tuple[str, float]], at: int) -> float:
    """Return the share of the `at` nearest that was found; `exact` may hold more, best first."""
    if not exact:
        return 1.0
    at = min(at, len(exact))
    last = exact[at - 1][1]
    tolerance = _EQUAL * (1 + abs(last))
    allowed = {identifier for identifier, score in exact if score >= last - tolerance}
    return len(allowed.intersection(found)) / at
