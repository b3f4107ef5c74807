"""Bitext: does a sentence find its translation among all others, in both directions?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raybert.evaluation.evaluator import Embedder, Evaluator, same_length
from raybert.evaluation.metrics import Metrics
from raybert.evaluation.pairs import truncation
from raybert.evaluation.sparsity import SparsityCount
from raybert.vectors import blocks_of, exact_topk


class TranslationEvaluator(Evaluator):
    """Accuracy of finding the translation by cosine: source to target, back, and their mean.

    A hit counts if the text found equals the translation, so sentences that stand twice do no
    harm. Equal scores go to the first sentence.

    Args:
        source_sentences: sentences in one language.
        target_sentences: their translations, in the same order.
        truncate_dim: dimensions kept; the encoder's own if None.
        name: put before each metric's name.
    """

    primary = "mean_accuracy"

    def __init__(
        self,
        source_sentences: Sequence[str],
        target_sentences: Sequence[str],
        *,
        truncate_dim: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        same_length(source_sentences=source_sentences, target_sentences=target_sentences)
        self._sources, self._targets = list(source_sentences), list(target_sentences)
        self._options = truncation(truncate_dim)

    def __call__(self, encoder: Embedder) -> Metrics:
        """Return the accuracies."""
        sources = encoder.encode(self._sources, **self._options)
        targets = encoder.encode(self._targets, **self._options)
        forward = _found(sources, targets, self._targets)
        backward = _found(targets, sources, self._sources)
        statistics = SparsityCount()
        statistics.add(sources)
        statistics.add(targets)
        metrics = {
            "src2trg_accuracy": forward,
            "trg2src_accuracy": backward,
            "mean_accuracy": (forward + backward) / 2,
        }
        return self.prefixed(metrics | statistics.metrics())


def _found(queries: Any, corpus: Any, texts: Sequence[str]) -> float:
    best = exact_topk(queries, blocks_of(corpus), 1, similarity="cosine").orders[:, 0]
    return float(np.mean([texts[row] == texts[own] for own, row in enumerate(best)]))
