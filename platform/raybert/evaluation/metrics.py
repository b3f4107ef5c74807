"""Metrics of rankings: pure functions of which ranked items are relevant.

A ranking is judged in the order it is given; `ranked` is the order when only scores are known:
by falling score, equal scores by rising id, so a run whose scores are all zero is ranked by id and
earns what that order earns, never a hit for each tie. Relevance above 0 is relevant; graded
relevance counts in nDCG alone, as the gain itself (trec_eval's definition).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from raybert.errors import InputError
from raybert.records import Hit, Ranking

Qrels: TypeAlias = Mapping[str, Mapping[str, float]]
"""Query id to document id to relevance."""
Metrics: TypeAlias = dict[str, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """One ranking, judged.

    Args:
        gains: relevance of each ranked item, best place first; 0 where not relevant.
        ideal: relevance of all relevant items there are, greatest first; never empty.
    """

    gains: tuple[float, ...]
    ideal: tuple[float, ...]

    @property
    def relevant(self) -> int:
        """How many relevant items there are, ranked or not."""
        return len(self.ideal)

    def found(self, k: int) -> int:
        """How many of the first `k` are relevant."""
        return sum(gain > 0 for gain in self.gains[:k])


def ranked(scores: Mapping[str, float], top_k: int | None = None) -> tuple[Hit, ...]:
    """Order items by falling score, equal scores by rising id.

    Raises:
        InputError: a score is NaN.
    """
    for identifier, score in scores.items():
        if math.isnan(score):
            raise InputError(f"the score of {identifier!r} is NaN")
    order = sorted(scores, key=lambda identifier: (-scores[identifier], identifier))
    return tuple(Hit(identifier, scores[identifier]) for identifier in order[:top_k])


def judge(ids: Iterable[str], relevance: Mapping[str, float]) -> Judged:
    """Judge ranked ids by the relevance of their query.

    Raises:
        InputError: nothing is relevant, or an id is ranked twice.
    """
    ideal = sorted((gain for gain in relevance.values() if gain > 0), reverse=True)
    if not ideal:
        raise InputError("a ranking without any relevant item cannot be judged")
    given = list(ids)
    if len(set(given)) != len(given):
        twice = next(item for item in given if given.count(item) > 1)
        raise InputError(f"{twice!r} is ranked twice for one query")
    gains = tuple(max(0.0, float(relevance.get(identifier, 0))) for identifier in given)
    return Judged(gains, tuple(float(gain) for gain in ideal))


def accuracy(judged: Judged, k: int) -> float:
    """Return 1 if one of the first `k` is relevant, else 0 (also called success or hit rate)."""
    return float(judged.found(k) > 0)


def precision(judged: Judged, k: int) -> float:
    """Return the share of the first `k` places that hold a relevant item."""
    return judged.found(k) / k


def recall(judged: Judged, k: int) -> float:
    """Return the share of the relevant items that the first `k` hold."""
    return judged.found(k) / judged.relevant


def reciprocal_rank(judged: Judged, k: int) -> float:
    """Return 1 / rank of the first relevant item, 0 if the first `k` hold none."""
    for rank, gain in enumerate(judged.gains[:k], start=1):
        if gain > 0:
            return 1 / rank
    return 0.0


def average_precision(judged: Judged, k: int) -> float:
    """Return the mean precision at the ranks of relevant items, over min(k, relevant items)."""
    hits, total = 0, 0.0
    for rank, gain in enumerate(judged.gains[:k], start=1):
        if gain > 0:
            hits += 1
            total += hits / rank
    return total / min(k, judged.relevant)


def ndcg(judged: Judged, k: int) -> float:
    """Return the discounted gain of the first `k` over that of the best order of all items.

    The discount of rank r is log2(1 + r) (Järvelin and Kekäläinen, 2002).
    """
    return _discounted(judged.gains[:k]) / _discounted(judged.ideal[:k])


METRICS = {
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
    "ndcg": ndcg,
    "mrr": reciprocal_rank,
    "map": average_precision,
}
"""Metrics at k by the name reports give them."""


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """At which k each metric is taken."""

    accuracy: Sequence[int] = (1, 3, 5, 10)
    precision: Sequence[int] = (1, 3, 5, 10)
    recall: Sequence[int] = (1, 3, 5, 10)
    ndcg: Sequence[int] = (10,)
    mrr: Sequence[int] = (10,)
    map: Sequence[int] = (100,)

    @property
    def deepest(self) -> int:
        """The deepest rank any metric looks at."""
        every: list[Sequence[int]] = [getattr(self, name) for name in METRICS]
        return max(k for cutoffs in every for k in cutoffs)


def measure(judged: Sequence[Judged], cutoffs: Cutoffs | None = None) -> Metrics:
    """Return each metric's mean over queries, named `ndcg@10`.

    Raises:
        InputError: there is no query to judge.
    """
    if not judged:
        raise InputError("no query has a relevant document: there is nothing to measure")
    taken = cutoffs or Cutoffs()
    return {
        f"{name}@{k}": sum(metric(one, k) for one in judged) / len(judged)
        for name, metric in METRICS.items()
        for k in getattr(taken, name)
    }


def judge_rankings(rankings: Iterable[Ranking], qrels: Qrels) -> dict[str, Judged]:
    """Judge every query that has a relevant document, by query id.

    A query nobody ranked anything for counts as an empty ranking; a ranking without a relevant
    document in `qrels` is left out.
    """
    found = {ranking.query_id: [hit.id for hit in ranking] for ranking in rankings}
    return {
        query: judge(found.get(query, ()), relevance)
        for query, relevance in qrels.items()
        if any(gain > 0 for gain in relevance.values())
    }


def _discounted(gains: Iterable[float]) -> float:
    return sum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains, start=1))
