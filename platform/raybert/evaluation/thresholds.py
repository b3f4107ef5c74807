"""Thresholds: the score above which a pair counts as similar, and what that decision is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raybert.evaluation.ties import Flags, Values


@dataclass(frozen=True, slots=True)
class Decision:
    """A threshold and its worth: accuracy or F1, and precision and recall of what passes it."""

    value: float
    threshold: float
    precision: float = 0.0
    recall: float = 0.0


def best_accuracy(scores: Values, positive: Flags) -> Decision:
    """Return the threshold of the best accuracy; among equals the highest.

    A threshold lies midway between two neighbouring scores, above the highest where it is best to
    pass nothing, and on the lowest where it is best to pass all.
    """
    ranked, hits, ends = _ranked(scores, positive)
    negatives = int((~positive).sum())
    accuracies = (2 * hits[ends] - (ends + 1) + negatives) / len(ranked)
    nothing = negatives / len(ranked)
    if not len(accuracies) or accuracies.max() <= nothing:
        return Decision(nothing, float(np.nextafter(ranked[0], ranked.dtype.type(np.inf))))
    at = int(ends[int(accuracies.argmax())])
    return Decision(float(accuracies.max()), _midway(ranked, at))


def best_f1(scores: Values, positive: Flags) -> Decision:
    """Return the threshold of the best F1; among equals the highest; 0 without a positive."""
    ranked, hits, ends = _ranked(scores, positive)
    total = int(positive.sum())
    if not total:
        return Decision(0.0, 0.0)
    precision, recall = hits[ends] / (ends + 1), hits[ends] / total
    values = 2 * hits[ends] / (ends + 1 + total)
    best = int(values.argmax())
    threshold = _midway(ranked, int(ends[best]))
    return Decision(float(values[best]), threshold, float(precision[best]), float(recall[best]))


def matthews(scores: Values, positive: Flags, threshold: float) -> float:
    """Return Matthews' correlation of passing the threshold with being positive; 0 if undefined."""
    passed = scores >= threshold
    both = float((passed & positive).sum())
    neither = float((~passed & ~positive).sum())
    wrongly, missed = float((passed & ~positive).sum()), float((~passed & positive).sum())
    scale = (both + wrongly) * (both + missed) * (neither + wrongly) * (neither + missed)
    return (both * neither - wrongly * missed) / scale**0.5 if scale else 0.0


def _ranked(
    scores: Values, positive: Flags
) -> tuple[Values, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return scores falling, positives up to each place, and the last place of each tie."""
    order = np.argsort(-scores, kind="stable")
    ranked: npt.NDArray[Any] = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return ranked, np.cumsum(positive[order]), ends


def _midway(ranked: Values, at: int) -> float:
    if at == len(ranked) - 1:
        return float(ranked[at])
    middle = (ranked[at] + ranked[at + 1]) / 2
    # rounding must not let the next score pass
    return float(ranked[at] if middle == ranked[at + 1] else middle)
