"""Labelled pairs: can similar and dissimilar be told apart by a threshold?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raybert.errors import InputError
from raybert.evaluation.evaluator import Evaluator, same_length, similarities_of
from raybert.evaluation.metrics import Metrics
from raybert.evaluation.pairs import TextPairs, flags, scores_pairs, truncation
from raybert.evaluation.thresholds import best_accuracy, best_f1, matthews
from raybert.evaluation.ties import Flags, Values, tied_average_precision

DISTANCES = ("euclidean", "manhattan")


class BinaryClassificationEvaluator(Evaluator):
    """Accuracy, F1, precision, recall, average precision and Matthews' correlation of 0/1 pairs.

    Accuracy and F1 are those at their best threshold, which is given too; the thresholds of
    euclidean and manhattan are distances, below which a pair is similar. A cross-encoder is
    measured by its own scores: with one label by names without a similarity and
    `average_precision`, with several labels by `f1_macro`, `f1_micro` and `f1_weighted`.

    Args:
        sentences1: first text of each pair.
        sentences2: second text of each pair.
        labels: 1 similar, 0 not; for a cross-encoder of several labels the class.
        similarity_fn_names: similarities to measure by; the encoder's own if None.
        truncate_dim: dimensions kept; the encoder's own if None.
        name: put before each metric's name.
    """

    def __init__(
        self,
        sentences1: Sequence[str],
        sentences2: Sequence[str],
        labels: Sequence[int],
        *,
        similarity_fn_names: Sequence[str] | None = None,
        truncate_dim: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        same_length(sentences1=sentences1, sentences2=sentences2, labels=labels)
        self._left, self._right, self._labels = list(sentences1), list(sentences2), list(labels)
        self._similarities = similarity_fn_names
        self._options = truncation(truncate_dim)

    def __call__(self, encoder: Any) -> Metrics:
        """Return the metrics, named `{similarity}_f1`."""
        if scores_pairs(encoder):
            return self._of_cross_encoder(encoder)
        positive = flags(self._labels)
        texts = TextPairs(encoder, self._left, self._right, **self._options)
        names = similarities_of(encoder, self._similarities)
        metrics: Metrics = {}
        for similarity in names:
            found = binary_metrics(texts.scores(similarity), positive)
            if similarity in DISTANCES:
                found |= {key: -found[key] for key in found if key.endswith("_threshold")}
            metrics |= {f"{similarity}_{key}": value for key, value in found.items()}
        if len(names) > 1:
            for key in found:
                metrics[f"max_{key}"] = max(metrics[f"{name}_{key}"] for name in names)
        self.primary_metric = self.named(f"{'max' if len(names) > 1 else names[0]}_ap")
        return self.prefixed(metrics | texts.statistics.metrics())

    def _of_cross_encoder(self, encoder: Any) -> Metrics:
        scores = np.asarray(encoder.predict(list(zip(self._left, self._right, strict=True))))
        if scores.ndim == 1:
            self.primary_metric = self.named("average_precision")
            found = binary_metrics(scores, flags(self._labels))
            return self.prefixed(_renamed(found, ap="average_precision"))
        self.primary_metric = self.named("f1_macro")
        return self.prefixed(class_f1(scores.argmax(axis=1), np.asarray(self._labels)))


def binary_metrics(scores: Values, positive: Flags) -> Metrics:
    """Return all binary metrics of scores, higher being more similar."""
    accuracy, f1 = best_accuracy(scores, positive), best_f1(scores, positive)
    return {
        "accuracy": accuracy.value,
        "accuracy_threshold": accuracy.threshold,
        "f1": f1.value,
        "f1_threshold": f1.threshold,
        "precision": f1.precision,
        "recall": f1.recall,
        "ap": tied_average_precision(positive, scores),
        "mcc": matthews(scores, positive, f1.threshold),
    }


def class_f1(predicted: Any, actual: Any) -> Metrics:
    """Return F1 over classes: their mean, over all decisions, and their mean by size.

    Raises:
        InputError: a label is no whole number.
    """
    if not np.issubdtype(np.asarray(actual).dtype, np.integer):
        raise InputError("labels of a cross-encoder with several labels are whole numbers")
    classes = np.union1d(predicted, actual)
    hits = np.array([((predicted == c) & (actual == c)).sum() for c in classes], dtype=np.float64)
    sizes = np.array([(actual == c).sum() for c in classes], dtype=np.float64)
    given = np.array([(predicted == c).sum() for c in classes], dtype=np.float64)
    f1 = 2 * hits / (sizes + given)
    return {
        "f1_macro": float(f1.mean()),
        "f1_micro": float((predicted == actual).mean()),
        "f1_weighted": float((f1 * sizes).sum() / sizes.sum()),
    }


def _renamed(metrics: Metrics, **names: str) -> Metrics:
    return {names.get(key, key): value for key, value in metrics.items() if key != "mcc"}
