"""What a report says of labelled pairs: the metrics, both histograms, and the calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raybert.evaluation.calibration import calibrate
from raybert.evaluation.evaluator import same_length, similarities_of
from raybert.evaluation.labelled_pairs import binary_metrics
from raybert.evaluation.metrics import Metrics
from raybert.evaluation.pairs import TextPairs, flags, scores_pairs
from raybert.evaluation.report import Plot, calibration_plot, score_plot


def pair_report(
    encoder: Any, left: Sequence[str], right: Sequence[str], labels: Sequence[float]
) -> tuple[Metrics, list[Plot]]:
    """Return the metrics of labelled pairs and their pictures.

    Scores of a cross-encoder that lie from 0 to 1 are probabilities: they get a calibration plot
    and `calibration_error`; similarities are none.

    Args:
        encoder: dense, sparse, or a cross-encoder with one label.
        left: first text of each pair.
        right: second text of each pair.
        labels: 1 similar, 0 not.

    Raises:
        InputError: columns differ in length, or a label is neither 0 nor 1.
    """
    same_length(left=left, right=right, labels=labels)
    positive, crossed = flags(labels), scores_pairs(encoder)
    if crossed:
        scores = np.asarray(encoder.predict(list(zip(left, right, strict=True))))
    else:
        (name,) = similarities_of(encoder, None)
        scores = TextPairs(encoder, left, right).scores(name)
    metrics, plots = binary_metrics(scores, positive), []
    if positive.any() and not positive.all():
        plots.append(score_plot(scores[positive].tolist(), scores[~positive].tolist()))
    if crossed and ((scores >= 0) & (scores <= 1)).all():
        found = calibrate(scores, positive)
        metrics["calibration_error"] = found.error
        plots.append(calibration_plot(found))
    return metrics, plots
