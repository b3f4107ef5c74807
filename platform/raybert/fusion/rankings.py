"""Fusion: several rankings of one query joined into one; each answer knows its place in each leg.

Ties are broken by id, as everywhere. A leg is one retriever's ranking, known by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from raybert.errors import InputError
from raybert.records import Hit

RRF_K = 60
"""Rank constant of Cormack, Clarke and Büttcher (SIGIR 2009)."""
Legs: TypeAlias = Mapping[str, Sequence[Hit]]
Weights: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one leg ranked an item: rank from 1, and the leg's own score."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class FusedHit:
    """One item of the joined ranking.

    Args:
        id: the item.
        score: its joined score, higher is better.
        places: its place in every leg that found it.
    """

    id: str
    score: float
    places: Mapping[str, Place]

    @property
    def hit(self) -> Hit:
        """The item as a plain hit."""
        return Hit(self.id, self.score)


def reciprocal_rank(
    legs: Legs, *, k: float = RRF_K, weights: Weights | None = None, top_k: int | None = None
) -> list[FusedHit]:
    """Join by reciprocal rank: the sum over legs of weight / (k + rank), ranks from 1.

    Args:
        legs: each leg's hits, best first.
        k: rank constant; a larger one flattens the difference between ranks.
        weights: weight of each leg, 1 where none is given.
        top_k: items to keep; all if None.

    Raises:
        InputError: k below 0, a weight of an unknown leg or below 0, an item twice in a leg.
    """
    if k < 0:
        raise InputError(f"rank constant {k}: at least 0 is allowed")
    return _joined(legs, weights, top_k, lambda hits: [1 / (k + i + 1) for i in range(len(hits))])


def weighted_scores(
    legs: Legs,
    *,
    weights: Weights | None = None,
    normalization: str = "minmax",
    top_k: int | None = None,
) -> list[FusedHit]:
    """Join by score: the sum over legs of weight x normalised score; absent counts as 0.

    Args:
        legs: each leg's hits, best first.
        weights: weight of each leg, 1 where none is given.
        normalization: one of `NORMALIZATIONS`, applied within each leg.
        top_k: items to keep; all if None.

    Raises:
        InputError: unknown normalization, a weight of an unknown leg or below 0, an item twice.
    """
    if normalization not in NORMALIZATIONS:
        allowed = ", ".join(NORMALIZATIONS)
        raise InputError(f"normalization {normalization!r}: allowed are {allowed}")
    return _joined(legs, weights, top_k, NORMALIZATIONS[normalization])


def _minmax(hits: Sequence[Hit]) -> list[float]:
    """Scale the leg's worst score to 0 and its best to 1; all alike count 1."""
    scores = [hit.score for hit in hits]
    low, span = min(scores, default=0), max(scores, default=0) - min(scores, default=0)
    return [(score - low) / span if span else 1.0 for score in scores]


def _three_sigma(hits: Sequence[Hit]) -> list[float]:
    """Scale mean - 3 deviations to 0 and mean + 3 to 1 (distribution-based score fusion)."""
    scores = [hit.score for hit in hits]
    mean = sum(scores) / max(1, len(scores))
    deviation = (sum((score - mean) ** 2 for score in scores) / max(1, len(scores))) ** 0.5
    return [(score - mean) / (6 * deviation) + 0.5 if deviation else 0.5 for score in scores]


def _as_is(hits: Sequence[Hit]) -> list[float]:
    return [hit.score for hit in hits]


NORMALIZATIONS: dict[str, Callable[[Sequence[Hit]], list[float]]] = {
    "minmax": _minmax,
    "three_sigma": _three_sigma,
    "none": _as_is,
}
"""How a leg's scores are made comparable with another leg's."""


def _joined(
    legs: Legs,
    weights: Weights | None,
    top_k: int | None,
    parts: Callable[[Sequence[Hit]], list[float]],
) -> list[FusedHit]:
    known = _weights(legs, weights)
    shares: dict[str, list[float]] = {}
    places: dict[str, dict[str, Place]] = {}
    for leg, hits in legs.items():
        for rank, (hit, part) in enumerate(zip(hits, parts(hits), strict=True), start=1):
            found = places.setdefault(hit.id, {})
            if leg in found:
                raise InputError(f"leg {leg!r} ranks {hit.id!r} twice")
            found[leg] = Place(rank, hit.score)
            shares.setdefault(hit.id, []).append(known[leg] * part)
    # an exact sum: the order in which legs are named changes no score and so no tie
    scores = {identifier: math.fsum(parts_of) for identifier, parts_of in shares.items()}
    order = sorted(scores, key=lambda identifier: (-scores[identifier], identifier))
    return [FusedHit(item, scores[item], places[item]) for item in order[:top_k]]


def _weights(legs: Legs, weights: Weights | None) -> dict[str, float]:
    given = dict(weights or {})
    for leg, weight in given.items():
        if leg not in legs:
            raise InputError(f"weight of the unknown leg {leg!r}; legs are {', '.join(legs)}")
        if not weight >= 0:
            raise InputError(f"weight {weight} of leg {leg!r}: at least 0 is allowed")
    return {leg: given.get(leg, 1.0) for leg in legs}
