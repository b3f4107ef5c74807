"""Comparing two generations of an index on a set of queries, before the next one is served."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from raybert.evaluation.metrics import Judged, judge, ndcg
from raybert.evaluation.searching import encoder_of, fuse, search
from raybert.index import open_index
from raybert.index.generations import GenerationRecord, Generations
from raybert.index.live import LiveIndex, is_live
from raybert.records import Ranking

Qrels = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two generations on the same queries.

    Args:
        queries: how many were asked.
        at: hits looked at.
        overlap: mean share of the current generation's hits that the next one finds too, 0 to 1.
        same_first: share of the queries whose first hit is the same.
        current_ndcg: nDCG@`at` of the current generation; None where nothing is judged.
        next_ndcg: of the next one.
        current_ms: mean milliseconds of a query, encoding included, all asked at once.
        next_ms: of the next one.
    """

    queries: int
    at: int
    overlap: float
    same_first: float
    current_ndcg: float | None
    next_ndcg: float | None
    current_ms: float
    next_ms: float

    def as_dict(self) -> dict[str, float | None]:
        """Return it for the record, a report or a tracker."""
        return asdict(self)


def compare_generations(
    generations: Generations,
    name: str,
    queries: Mapping[str, str],
    *,
    qrels: Qrels | None = None,
    at: int = 10,
    models: Mapping[str, str] | None = None,
) -> Comparison:
    """Ask both generations the same; each leg's queries are encoded by its own model.

    Args:
        generations: of one index name.
        name: the next generation.
        queries: text by query id.
        qrels: relevance by document by query, if there are judgements.
        at: hits looked at.
        models: where models lie now, by fingerprint; where they lay when encoding if not given.

    Raises:
        ArtifactError: an index or a model is not what it was.
        InputError: no such generation, no current one.
    """
    now, now_ms = _rankings(generations, generations.current, queries, at, models or {})
    then, then_ms = _rankings(generations, generations.named(name), queries, at, models or {})
    pairs = list(zip(now, then, strict=True))
    count = max(len(queries), 1)
    return Comparison(
        queries=len(queries),
        at=at,
        overlap=sum(_overlap(*pair) for pair in pairs) / count,
        same_first=sum(_ids(a)[:1] == _ids(b)[:1] for a, b in pairs) / count,
        current_ndcg=_ndcg(now, qrels, at),
        next_ndcg=_ndcg(then, qrels, at),
        current_ms=now_ms,
        next_ms=then_ms,
    )


def _rankings(
    generations: Generations,
    generation: GenerationRecord,
    queries: Mapping[str, str],
    at: int,
    models: Mapping[str, str],
) -> tuple[list[Ranking], float]:
    legs: dict[str, list[Ranking]] = {}
    seconds = 0.0
    for leg, uri in generations.legs(generation).items():
        index: Any = LiveIndex(uri).snapshot() if is_live(uri) else open_index(uri)
        encoder = encoder_of(index, model=models.get(generation.legs[leg].model))
        started = time.perf_counter()
        legs[leg] = search(queries, index, encoder, at)
        seconds += time.perf_counter() - started
    return fuse(legs, at)[0], 1000 * seconds / max(len(queries), 1)


def _ids(ranking: Ranking) -> list[str]:
    return [hit.id for hit in ranking]


def _overlap(now: Ranking, then: Ranking) -> float:
    found = _ids(now)
    return len(set(found).intersection(_ids(then))) / len(found) if found else 1.0


def _ndcg(rankings: list[Ranking], qrels: Qrels | None, at: int) -> float | None:
    judged: list[Judged] = [
        judge(_ids(ranking), qrels[ranking.query_id])
        for ranking in rankings
        if qrels and any(gain > 0 for gain in qrels.get(ranking.query_id, {}).values())
    ]
    return sum(ndcg(each, at) for each in judged) / len(judged) if judged else None
