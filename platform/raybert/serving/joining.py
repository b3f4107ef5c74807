"""Joining the lists of several legs into one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raybert.records import Hit
from raybert.serving.faults import FaultKind, RequestError

RRF_K = 60
"""Constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009)."""


def join_legs(legs: Mapping[str, Sequence[Hit]], fusion: str) -> list[Hit]:
    """Return one list, best first, equal scores by id; a single leg keeps its own scores.

    Args:
        legs: hits by leg name, best first.
        fusion: `rrf`: sum over legs of 1 / (60 + rank); `weighted`: mean over all legs of scores
            scaled to 0..1 within the leg (a leg that lacks a hit counts 0).

    Raises:
        RequestError: `INVALID` for an unknown fusion.
    """
    if len(legs) == 1:
        return list(next(iter(legs.values())))
    if fusion not in FUSIONS:
        message = f"`fusion` is {fusion!r}; allowed are {', '.join(FUSIONS)}"
        raise RequestError(FaultKind.INVALID, message, "fusion")
    scores: dict[str, float] = {}
    for hits in legs.values():
        for hit, part in zip(hits, FUSIONS[fusion](hits), strict=True):
            scores[hit.id] = scores.get(hit.id, 0.0) + part
    joined = [Hit(each, score) for each, score in scores.items()]
    return sorted(joined, key=lambda hit: (-hit.score, hit.id))


def _reciprocal_ranks(hits: Sequence[Hit]) -> list[float]:
    return [1 / (RRF_K + rank) for rank in range(1, len(hits) + 1)]


def _scaled(hits: Sequence[Hit]) -> list[float]:
    if not hits:
        return []
    best, worst = hits[0].score, hits[-1].score
    span = best - worst
    return [(hit.score - worst) / span if span > 0 else 1.0 for hit in hits]


FUSIONS = {"rrf": _reciprocal_ranks, "weighted": _scaled}
"""Each leg's part in the joined score, by fusion name."""
