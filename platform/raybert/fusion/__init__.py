"""Fusion of rankings: by reciprocal rank or by weighted scores.

>>> from raybert.fusion import reciprocal_rank
>>> from raybert.records import Hit
>>> legs = {"dense": [Hit("a", 0.9), Hit("b", 0.8)], "sparse": [Hit("b", 7.0)]}
>>> [(hit.id, hit.places["dense"].rank) for hit in reciprocal_rank(legs)]
[('b', 2), ('a', 1)]
"""

from raybert.fusion.rankings import (
    NORMALIZATIONS,
    RRF_K,
    FusedHit,
    Place,
    reciprocal_rank,
    weighted_scores,
)

__all__ = [
    "NORMALIZATIONS",
    "RRF_K",
    "FusedHit",
    "Place",
    "reciprocal_rank",
    "weighted_scores",
]
