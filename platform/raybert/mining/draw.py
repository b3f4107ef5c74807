"""Drawing among candidates: by lot, and yet the same on every machine and for every cut."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raybert.mining.positives import Rows
from raybert.mining.rules import NegativeRules
from raybert.vectors.topk import Scores


def drawn_places(
    places: Rows, scores: Scores, orders: Rows, rules: NegativeRules, first: int
) -> Rows:
    """Draw `num_negatives` of the candidates a query has, and bring them into their order."""
    queries = np.arange(first, first + len(orders), dtype=np.uint64)[:, None]
    rows = np.take_along_axis(orders, places, axis=1).astype(np.uint64)
    lots = _mixed(_mixed(queries + np.uint64(rules.seed % (1 << 32)) * np.uint64(1 << 32)) ^ rows)
    gone = np.isneginf(np.take_along_axis(scores, places, axis=1))
    lots = (lots >> np.uint64(1)) | (gone.astype(np.uint64) << np.uint64(63))
    drawn = np.sort(np.argsort(lots, axis=1, kind="stable")[:, : rules.num_negatives], axis=1)
    return np.take_along_axis(places, drawn, axis=1)


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
