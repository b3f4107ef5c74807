"""Joining the lists of several legs by the fusion a request names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from raybert.fusion import FusedHit, Place, reciprocal_rank, weighted_scores
from raybert.records import Hit
from raybert.serving.faults import FaultKind, RequestError

FUSIONS: dict[str, Callable[[Mapping[str, Sequence[Hit]]], list[FusedHit]]] = {
    "rrf": reciprocal_rank,
    "weighted": weighted_scores,
}
"""Reciprocal rank (k = 60), or scores scaled to 0..1 within each leg; the sum over the legs."""


def join_legs(legs: Mapping[str, Sequence[Hit]], fusion: str) -> list[FusedHit]:
    """Return one list, best first, equal scores by id; a single leg keeps its own scores.

    Args:
        legs: hits by leg name, best first.
        fusion: one of `FUSIONS`.

    Raises:
        RequestError: `INVALID` for an unknown fusion.
    """
    if fusion not in FUSIONS:
        message = f"`fusion` is {fusion!r}; allowed are {', '.join(FUSIONS)}"
        raise RequestError(FaultKind.INVALID, message, "fusion")
    if len(legs) > 1:
        return FUSIONS[fusion](legs)
    return [
        FusedHit(hit.id, hit.score, {leg: Place(rank, hit.score)})
        for leg, hits in legs.items()
        for rank, hit in enumerate(hits, start=1)
    ]
