"""Graded pairs: does an encoder's similarity follow human grades?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from raybert.errors import InputError
from raybert.evaluation.evaluator import Evaluator, same_length, similarities_of
from raybert.evaluation.metrics import Metrics
from raybert.evaluation.pairs import TextPairs, scores_pairs, truncation
from raybert.evaluation.ties import Values
from raybert.vectors import PRECISIONS, Ranges, pick_similarity, quantize


class EmbeddingSimilarityEvaluator(Evaluator):
    """Correlates the similarity of text pairs with their grades: Pearson and Spearman.

    A cross-encoder is measured by its own scores and gives `pearson` and `spearman`; any other
    encoder gives `pearson_{similarity}` and `spearman_{similarity}`, a sparse one its statistics
    too. Correlation with constant scores is not defined and is NaN.

    Args:
        sentences1: first text of each pair.
        sentences2: second text of each pair.
        scores: grade of each pair, higher is more similar.
        similarity_fn_names: similarities to measure by; the encoder's own if None.
        precision: quantize the vectors first, both sides by the same ranges.
        truncate_dim: dimensions kept; the encoder's own if None.
        name: put before each metric's name.
    """

    def __init__(
        self,
        sentences1: Sequence[str],
        sentences2: Sequence[str],
        scores: Sequence[float],
        *,
        similarity_fn_names: Sequence[str] | None = None,
        precision: str | None = None,
        truncate_dim: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        same_length(sentences1=sentences1, sentences2=sentences2, scores=scores)
        if precision is not None and precision not in PRECISIONS:
            raise InputError(f"precision {precision!r}: allowed are {', '.join(PRECISIONS)}")
        self._left, self._right = list(sentences1), list(sentences2)
        self._grades = np.asarray(scores, dtype=np.float64)
        self._similarities = similarity_fn_names
        self._precision = precision
        self._options = truncation(truncate_dim)

    def __call__(self, encoder: Any) -> Metrics:
        """Return the correlations."""
        if scores_pairs(encoder):
            self.primary_metric = self.named("spearman")
            pairs = list(zip(self._left, self._right, strict=True))
            return self.prefixed(self._correlations(np.asarray(encoder.predict(pairs)), ""))
        texts = TextPairs(encoder, self._left, self._right, **self._options)
        names = similarities_of(encoder, self._similarities)
        metrics: Metrics = {}
        for similarity in names:
            metrics |= self._correlations(self._scores(texts, similarity), f"_{similarity}")
        if len(names) > 1:
            for kind in ("pearson", "spearman"):
                metrics[f"{kind}_max"] = max(metrics[f"{kind}_{name}"] for name in names)
        best = "max" if len(names) > 1 else names[0]
        self.primary_metric = self.named(f"spearman_{best}")
        return self.prefixed(metrics | texts.statistics.metrics())

    def _scores(self, texts: TextPairs, similarity: str) -> Values:
        if self._precision in (None, "float32"):
            return texts.scores(similarity)
        left, right = _quantized(texts, str(self._precision))
        return pick_similarity(similarity).pairwise(left, right).numpy()

    def _correlations(self, scores: Values, suffix: str) -> Metrics:
        from scipy.stats import pearsonr, spearmanr

        return {
            f"pearson{suffix}": float(pearsonr(self._grades, scores)[0]),
            f"spearman{suffix}": float(spearmanr(self._grades, scores)[0]),
        }


def _quantized(texts: TextPairs, precision: str) -> tuple[Any, Any]:
    """Return both sides as the numbers that are stored; packed bits as 0 and 1."""
    both = torch.cat([texts.left, texts.right]).cpu().numpy()
    stored = quantize(both, precision, Ranges.of(both) if "int8" in precision else None)
    if "binary" in precision:
        unsigned = stored if precision == "ubinary" else stored.astype(np.int16) + 128
        stored = np.unpackbits(unsigned.astype(np.uint8), axis=1)
    rows = stored.astype(np.float32)
    return rows[: len(texts.left)], rows[len(texts.left) :]
