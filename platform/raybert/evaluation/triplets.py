"""Triplets: is the positive nearer to the anchor than the negative?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raybert.evaluation.evaluator import Embedder, Evaluator, same_length, similarities_of
from raybert.evaluation.metrics import Metrics
from raybert.evaluation.pairs import truncation
from raybert.evaluation.sparsity import SparsityCount
from raybert.vectors import pick_similarity


class TripletEvaluator(Evaluator):
    """Share of triplets where sim(anchor, positive) > sim(anchor, negative) + margin.

    Anchors are encoded as queries, the others as documents. A tie is no success.

    Args:
        anchors: the anchors.
        positives: a text near to each anchor.
        negatives: a text far from each anchor.
        similarity_fn_names: similarities to measure by; the encoder's own if None.
        margin: by how much the positive must be nearer, for all similarities or by name.
        truncate_dim: dimensions kept; the encoder's own if None.
        name: put before each metric's name.
    """

    def __init__(
        self,
        anchors: Sequence[str],
        positives: Sequence[str],
        negatives: Sequence[str],
        *,
        similarity_fn_names: Sequence[str] | None = None,
        margin: float | Mapping[str, float] = 0.0,
        truncate_dim: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        same_length(anchors=anchors, positives=positives, negatives=negatives)
        self._texts = (list(anchors), list(positives), list(negatives))
        self._similarities = similarity_fn_names
        self._margins = dict(margin) if isinstance(margin, Mapping) else None
        self._margin = 0.0 if isinstance(margin, Mapping) else float(margin)
        for similarity in self._margins or ():
            pick_similarity(similarity)
        self._options: dict[str, Any] = dict(truncation(truncate_dim))

    def __call__(self, encoder: Embedder) -> Metrics:
        """Return `{similarity}_accuracy`, and `max_accuracy` over several."""
        anchors, positives, negatives = self._texts
        anchor_vectors = encoder.encode_query(anchors, **self._options)
        near = encoder.encode_document(positives, **self._options)
        far = encoder.encode_document(negatives, **self._options)
        names = similarities_of(encoder, self._similarities)
        metrics: Metrics = {}
        for similarity in names:
            pairwise = pick_similarity(similarity).pairwise
            margin = (self._margins or {}).get(similarity, self._margin)
            right = pairwise(anchor_vectors, near) > pairwise(anchor_vectors, far) + margin
            metrics[f"{similarity}_accuracy"] = float(right.double().mean())
        if len(names) > 1:
            metrics["max_accuracy"] = max(metrics.values())
        self.primary_metric = self.named(f"{'max' if len(names) > 1 else names[0]}_accuracy")
        statistics = SparsityCount()
        for vectors in (anchor_vectors, near, far):
            statistics.add(vectors)
        return self.prefixed(metrics | statistics.metrics())
