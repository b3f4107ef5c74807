"""Losses on pairs that belong together or do not. Shapes: N pairs, D width, C classes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.errors import SettingsError
from raybert.losses.loss import LabelKind, Loss, LossInputs, one_of

PAIR_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": lambda a, b: 1 - F.cosine_similarity(a, b),
    "euclidean": lambda a, b: F.pairwise_distance(a, b, p=2),
    "manhattan": lambda a, b: F.pairwise_distance(a, b, p=1),
}
"""Distances of paired rows, [N]; `cosine` is 1 less the cosine."""


class ContrastiveLoss(Loss):
    """Draws positives together and pushes negatives beyond a margin.

    `1/2 mean(y d^2 + (1 - y) relu(m - d)^2)`, Hadsell et al. 2006, doi:10.1109/CVPR.2006.100.

    Args:
        distance_metric: `cosine`, `euclidean` or `manhattan`.
        margin: m, the distance beyond which a negative costs nothing.
        size_average: mean over the pairs; else their sum.

    Prefer:
        OnlineContrastiveLoss learns more from the same pairs; ContrastiveLoss keeps every pair in
        play and suits small batches or graded labels between 0 and 1.
    """

    columns = ("sentence_a", "sentence_b")
    labels = LabelKind.BINARY

    def __init__(
        self, distance_metric: str = "cosine", margin: float = 0.5, size_average: bool = True
    ) -> None:
        super().__init__()
        one_of("distance_metric", distance_metric, list(PAIR_DISTANCES))
        self.distance_metric = distance_metric
        self.margin = margin
        self.size_average = size_average
        self.in_batch = not size_average

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels [N] are 1 for pairs that belong together, else 0."""
        is_positive = self.row_labels(labels, inputs.rows).float()
        distances = PAIR_DISTANCES[self.distance_metric](*self.take(inputs))
        short = F.relu(self.margin - distances)
        losses = 0.5 * (is_positive * distances**2 + (1 - is_positive) * short**2)
        return losses.mean() if self.size_average else losses.sum()


class OnlineContrastiveLoss(Loss):
    """Contrastive loss on the hard pairs of a batch only.

    `sum d^2` over positives farther apart than the nearest negative, plus `sum relu(m - d)^2`
    over negatives nearer than the farthest positive. A sum: it grows with the batch.

    Args:
        distance_metric: `cosine`, `euclidean` or `manhattan`.
        margin: m, the distance beyond which a negative costs nothing.

    Prefer:
        The first choice for pairs labelled 0 or 1, in batches of 32 and more that hold both
        kinds; without one kind, hard means beyond the mean distance. Else ContrastiveLoss.
    """

    columns = ("sentence_a", "sentence_b")
    labels = LabelKind.BINARY
    in_batch = True

    def __init__(self, distance_metric: str = "cosine", margin: float = 0.5) -> None:
        super().__init__()
        one_of("distance_metric", distance_metric, list(PAIR_DISTANCES))
        self.distance_metric = distance_metric
        self.margin = margin

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; rows whose label is neither 0 nor 1 do not count."""
        kinds = self.row_labels(labels, inputs.rows)
        distances = PAIR_DISTANCES[self.distance_metric](*self.take(inputs))
        negatives, positives = distances[kinds == 0], distances[kinds == 1]
        nearest = negatives.min() if len(negatives) else positives.mean()
        farthest = positives.max() if len(positives) else negatives.mean()
        apart = positives[positives > nearest]
        close = F.relu(self.margin - negatives[negatives < farthest])
        return (apart**2).sum() + (close**2).sum()


class SoftmaxLoss(Loss):
    """Classifies a pair from `[u, v, |u - v|]` by one linear layer, as Sentence-BERT did for NLI.

    Cross-entropy of `W [u, v, |u - v|] + b`, arXiv:1908.10084. The layer W is trained with the
    model and dropped afterwards.

    Args:
        embedding_dimension: D, the width of the embeddings.
        num_labels: C, the number of classes.
        concatenation_sent_rep: u and v are part of the features.
        concatenation_sent_difference: |u - v| is part of the features.
        concatenation_sent_multiplication: u * v is part of the features.
        loss_fct: what compares logits [N, C] and classes [N]; cross-entropy.

    Prefer:
        For NLI with three classes where nothing else fits; turning entailments into positives and
        contradictions into negatives for MultipleNegativesRankingLoss gives better embeddings.
    """

    columns = ("sentence_a", "sentence_b")
    labels = LabelKind.CLASS

    def __init__(
        self,
        embedding_dimension: int,
        num_labels: int,
        concatenation_sent_rep: bool = True,
        concatenation_sent_difference: bool = True,
        concatenation_sent_multiplication: bool = False,
        loss_fct: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.parts = (
            concatenation_sent_rep,
            concatenation_sent_difference,
            concatenation_sent_multiplication,
        )
        copies = 2 * concatenation_sent_rep + sum(self.parts[1:])
        if not copies:
            raise SettingsError("SoftmaxLoss: one of the three concatenation settings must be true")
        self.num_labels = num_labels
        self.classifier = nn.Linear(copies * embedding_dimension, num_labels)
        self.loss_fct = loss_fct or nn.CrossEntropyLoss()

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels [N] are class numbers from 0."""
        classes = self.row_labels(labels, inputs.rows)
        return self.loss_fct(self.logits(inputs), classes)

    def logits(self, inputs: LossInputs) -> Tensor:
        """Return the classifier's logits [N, C] of each pair."""
        left, right = self.take(inputs)
        plain, difference, product = self.parts
        features = [left, right] if plain else []
        features += [(left - right).abs()] if difference else []
        features += [left * right] if product else []
        logits: Tensor = self.classifier(
            torch.cat(features, dim=1).to(self.classifier.weight.dtype)
        )
        return logits
