"""Triplet losses that find their triplets in a batch of single texts with class labels.

Shapes: N texts, D width, P pairs of one class. Distances are a matrix [N, N].
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.losses.loss import LabelKind, Loss, LossInputs, one_of
from raybert.vectors import cos_sim


def euclidean_distances(embeddings_ND: Tensor) -> Tensor:
    """Return Euclidean distances [N, N] of all rows; the gradient of a zero distance is zero."""
    with torch.autocast(embeddings_ND.device.type, enabled=False):
        rows = embeddings_ND if embeddings_ND.dtype == torch.float64 else embeddings_ND.float()
        products = rows @ rows.T
    norms = products.diagonal()
    squares = (norms[None, :] - 2 * products + norms[:, None]).clamp_min(0)
    is_zero = squares == 0
    return squares.masked_fill(is_zero, 1.0).sqrt().masked_fill(is_zero, 0.0)


def cosine_distances(embeddings_ND: Tensor) -> Tensor:
    """Return 1 less the cosine [N, N] of all rows."""
    return 1 - cos_sim(embeddings_ND, embeddings_ND)


MATRIX_DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {
    "euclidean": euclidean_distances,
    "cosine": cosine_distances,
}


class _BatchTripletLoss(Loss):
    """A loss over the distances of all texts of a batch to each other."""

    columns = ("text",)
    labels = LabelKind.CLASS
    in_batch = True

    def __init__(self, distance_metric: str = "euclidean") -> None:
        super().__init__()
        one_of("distance_metric", distance_metric, list(MATRIX_DISTANCES))
        self.distance_metric = distance_metric

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels [N] are class numbers."""
        (embeddings,) = self.take(inputs)
        classes = self.row_labels(labels, inputs.rows)
        same = classes[:, None] == classes[None, :]
        return self.over(MATRIX_DISTANCES[self.distance_metric](embeddings), same)

    @abstractmethod
    def over(self, distances_NN: Tensor, same_NN: Tensor) -> Tensor:
        """Return the loss, given distances and which texts are of one class."""


class BatchAllTripletLoss(_BatchTripletLoss):
    """Takes every valid triplet of the batch, averaged over those that cost something.

    `sum relu(d(a, p) - d(a, n) + m) / #(> 0)`, arXiv:1703.07737.

    Args:
        distance_metric: `euclidean` or `cosine`.
        margin: m, in units of the distance.

    Prefer:
        For texts with class labels (intents, topics), batches grouped by label; the calmest of
        the four batch triplet losses. BatchHardTripletLoss separates harder, on clean labels.
    """

    def __init__(self, distance_metric: str = "euclidean", margin: float = 5) -> None:
        super().__init__(distance_metric)
        self.margin = margin

    def over(self, distances_NN: Tensor, same_NN: Tensor) -> Tensor:
        """Return the mean of the triplets that cost something, 0 if none does."""
        anchors_P, positives_P = _other(same_NN).nonzero(as_tuple=True)
        to_positive_P1 = distances_NN[anchors_P, positives_P].unsqueeze(1)
        costs_PN = F.relu(to_positive_P1 - distances_NN[anchors_P] + self.margin)
        costs_PN = costs_PN.masked_fill(same_NN[anchors_P], 0.0)
        return costs_PN.sum() / ((costs_PN > 1e-16).sum() + 1e-16)


class BatchHardTripletLoss(_BatchTripletLoss):
    """Takes each text's farthest positive and nearest negative of the batch.

    `mean relu(max d(a, p) - min d(a, n) + m)`, arXiv:1703.07737.

    Args:
        distance_metric: `euclidean` or `cosine`.
        margin: m, in units of the distance.

    Prefer:
        For clean class labels and batches grouped by label; a wrong label is always the hardest
        triplet, then BatchAllTripletLoss. Without a good margin BatchHardSoftMarginTripletLoss.
    """

    def __init__(self, distance_metric: str = "euclidean", margin: float = 5) -> None:
        super().__init__(distance_metric)
        self.margin = margin

    def over(self, distances_NN: Tensor, same_NN: Tensor) -> Tensor:
        """Return the mean over all texts as anchors."""
        farthest, nearest = _hardest(distances_NN, same_NN)
        return F.relu(farthest - nearest + self.margin).mean()


class BatchHardSoftMarginTripletLoss(_BatchTripletLoss):
    """Takes the hardest triplets of the batch with a smooth margin.

    `mean log(1 + exp(max d(a, p) - min d(a, n)))`, arXiv:1703.07737.

    Args:
        distance_metric: `euclidean` or `cosine`.

    Prefer:
        Where no margin suggests itself; otherwise as BatchHardTripletLoss.
    """

    def over(self, distances_NN: Tensor, same_NN: Tensor) -> Tensor:
        """Return the mean over all texts as anchors."""
        farthest, nearest = _hardest(distances_NN, same_NN)
        return F.softplus(farthest - nearest).mean()


class BatchSemiHardTripletLoss(_BatchTripletLoss):
    """Takes, for each pair of a class, the nearest negative that is farther than the positive.

    `sum relu(d(a, p) - d(a, n) + m) / #pairs`; where no negative is farther, n is the farthest
    negative. FaceNet, arXiv:1503.03832.

    Args:
        distance_metric: `euclidean` or `cosine`.
        margin: m, in units of the distance.

    Prefer:
        When BatchHardTripletLoss collapses all texts to one point early in training.
    """

    def __init__(self, distance_metric: str = "euclidean", margin: float = 5) -> None:
        super().__init__(distance_metric)
        self.margin = margin

    def over(self, distances_NN: Tensor, same_NN: Tensor) -> Tensor:
        """Return the mean over ordered pairs of one class, 0 without any."""
        ordered = distances_NN.masked_fill(same_NN, torch.inf).sort(dim=1, stable=True).values
        with torch.no_grad():
            place = torch.searchsorted(ordered, distances_NN.contiguous(), right=True)
        farther = ordered.gather(1, place.clamp_max(len(same_NN) - 1))
        lowest = distances_NN.min(dim=1, keepdim=True).values
        farthest = ((distances_NN - lowest) * ~same_NN).max(dim=1, keepdim=True).values + lowest
        negative = torch.where(farther.isfinite(), farther, farthest)
        pairs = _other(same_NN)
        costs = F.relu(distances_NN - negative + self.margin)
        return costs.masked_fill(~pairs, 0.0).sum() / pairs.sum().clamp_min(1)


def _other(same_NN: Tensor) -> Tensor:
    """Return which two different rows are of one class."""
    return same_NN & ~torch.eye(len(same_NN), dtype=torch.bool, device=same_NN.device)


def _hardest(distances_NN: Tensor, same_NN: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's farthest positive (0 without one) and nearest negative, [N] both.

    A row without negatives takes its greatest distance, twice over, as Hermans et al. do.
    """
    farthest = (distances_NN * _other(same_NN)).max(dim=1).values
    greatest = distances_NN.max(dim=1, keepdim=True).values
    nearest = (distances_NN + greatest * same_NN).min(dim=1).values
    return farthest, nearest
