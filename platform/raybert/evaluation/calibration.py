"""Calibration: does a score of 0.8 mean that 8 of 10 are right?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raybert.errors import InputError
from raybert.evaluation.ties import Flags, Values


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scores against what came true, in bins of equal width.

    Args:
        scores: mean score of each bin that holds any.
        shares: share of positives in it.
        counts: how many scores it holds.
    """

    scores: tuple[float, ...]
    shares: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def error(self) -> float:
        """Expected calibration error: |score - share|, the mean over all scores."""
        gaps = np.abs(np.array(self.scores) - np.array(self.shares))
        return float(np.average(gaps, weights=self.counts))


def calibrate(scores: Values, positive: Flags, bins: int = 10) -> Calibration:
    """Bin scores between 0 and 1.

    Args:
        scores: [N], read as probabilities.
        positive: [N], which came true.
        bins: number of bins.

    Raises:
        InputError: a score outside 0 to 1, nothing to bin, or lengths that differ.
    """
    if not len(scores) or len(scores) != len(positive):
        raise InputError(f"calibration needs scores and labels: {len(scores)} and {len(positive)}")
    if not ((scores >= 0) & (scores <= 1)).all():
        wrong = float(scores[~((scores >= 0) & (scores <= 1))][0])
        raise InputError(f"score {wrong}: calibration reads scores from 0 to 1 as probabilities")
    at = np.minimum((scores * bins).astype(np.int64), bins - 1)
    counts = np.bincount(at, minlength=bins)
    held = counts > 0
    sums, hits = np.bincount(at, scores, bins), np.bincount(at, positive, bins)
    return Calibration(
        tuple((sums[held] / counts[held]).tolist()),
        tuple((hits[held] / counts[held]).tolist()),
        tuple(counts[held].tolist()),
    )
