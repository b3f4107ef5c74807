"""The loss on explicit triplets. Shapes: N triplets, D width."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from raybert.losses.loss import Loss, LossInputs, one_of
from raybert.vectors import pick_similarity

TRIPLET_DISTANCES = ("cosine", "euclidean", "manhattan")


class TripletLoss(Loss):
    """Wants the anchor nearer to its positive than to its negative, by a margin.

    `mean relu(d(a, p) - d(a, n) + m)`.

    Args:
        distance_metric: `cosine` (1 less the cosine), `euclidean` or `manhattan`.
        triplet_margin: m, in units of the distance (take less than 2 with `cosine`).

    Prefer:
        MultipleNegativesRankingLoss uses the same triplets and all other rows as negatives too,
        and is mostly better; TripletLoss when only the row's own negative may count.
    """

    columns = ("anchor", "positive", "negative")

    def __init__(self, distance_metric: str = "euclidean", triplet_margin: float = 5) -> None:
        super().__init__()
        one_of("distance_metric", distance_metric, TRIPLET_DISTANCES)
        self.distance_metric = distance_metric
        self.triplet_margin = triplet_margin

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels are not used."""
        anchor, near, far = self.take(inputs)
        similarity = pick_similarity(self.distance_metric).pairwise
        return F.relu(
            similarity(anchor, far) - similarity(anchor, near) + self.triplet_margin
        ).mean()
