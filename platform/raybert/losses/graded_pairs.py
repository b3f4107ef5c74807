"""Losses on pairs with a score of how similar they are. Shapes: N pairs, D width."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.losses.loss import LabelKind, Loss, LossInputs, positive
from raybert.vectors import pairwise_angle_sim, pick_similarity


class CosineSimilarityLoss(Loss):
    """Regresses the cosine of a pair on its score: `mean (f(cos(a_i, b_i)) - y_i)^2`.

    Args:
        loss_fct: what compares prediction and score, both [N]; mean squared error.
        cos_score_transformation: f, applied to the cosine; identity.

    Prefer:
        When the scores themselves must come out (0.8 means 0.8). For a good order of the pairs
        CoSENTLoss and AnglELoss learn more from the same data.
    """

    columns = ("sentence_a", "sentence_b")
    labels = LabelKind.SCORE

    def __init__(
        self,
        loss_fct: Callable[[Tensor, Tensor], Tensor] | None = None,
        cos_score_transformation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.loss_fct = loss_fct or nn.MSELoss()
        self.cos_score_transformation = cos_score_transformation or nn.Identity()

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels [N] are scores, mostly 0 to 1."""
        left, right = self.take(inputs)
        scores = self.row_labels(labels, inputs.rows).float()
        return self.loss_fct(
            self.cos_score_transformation(F.cosine_similarity(left, right)), scores
        )


class CoSENTLoss(Loss):
    """Orders pairs by their scores: a pair scored higher should be more similar (CoSENT).

    `log(1 + sum exp(scale (s_i - s_j)))` over all i, j with `y_i < y_j`, strictly; 0 if all
    scores are equal. doi:10.1109/TASLP.2024.3402087.

    Args:
        scale: inverse temperature.
        similarity_fct: `cosine`, `dot`, `euclidean` or `manhattan`.

    Prefer:
        The first choice for pairs with scores; only their order counts. It learns nothing from a
        batch of equal scores. AnglELoss is worth a try beside it.
    """

    columns: tuple[str, ...] = ("sentence_a", "sentence_b")
    labels = LabelKind.SCORE
    in_batch = True

    def __init__(self, scale: float = 20.0, similarity_fct: str = "cosine") -> None:
        super().__init__()
        self.scale = positive("scale", scale)
        self.similarity_fct = similarity_fct
        self.pairwise: Callable[[Tensor, Tensor], Tensor] = pick_similarity(similarity_fct).pairwise

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels [N] are scores of any scale."""
        left, right = self.take(inputs)
        scores = self.row_labels(labels, inputs.rows)
        return ordering_loss(self.pairwise(left, right) * self.scale, scores)


class AnglELoss(CoSENTLoss):
    """CoSENT on the angle in the complex plane, where the gradient does not fade (AnglE).

    `s = |cos + sin|` of the pair, its halves taken as real and imaginary parts, arXiv:2309.12871.
    With negatives the columns are split into pairs: (anchor, positive) has the row's score (1
    without one), (anchor, negative) has 1 less that score.

    Args:
        scale: inverse temperature.

    Prefer:
        For pairs with many scores near 0 or 1, where the cosine's gradient is flat; else
        CoSENTLoss, which is its equal and cheaper to reason about.
    """

    columns = ("sentence_a", "sentence_b", "negative*")

    def __init__(self, scale: float = 20.0) -> None:
        super().__init__(scale)
        self.similarity_fct = "angle"
        self.pairwise = pairwise_angle_sim

    def wants_label(self, columns: int) -> bool | None:
        """Say that pairs need a label, and that rows with negatives may have one."""
        return True if columns == 2 else None

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels [N] are needed for two columns, optional for more."""
        anchor, *others = self.take(inputs)
        if labels is None and len(others) > 1:
            labels = torch.ones(inputs.rows, device=anchor.device)
        scores = self.row_labels(labels, inputs.rows)
        negatives = (1 - scores).repeat(len(others) - 1)
        similarities = self.pairwise(anchor.repeat(len(others), 1), torch.cat(others))
        return ordering_loss(similarities * self.scale, torch.cat([scores, negatives]))


def ordering_loss(logits_N: Tensor, scores_N: Tensor) -> Tensor:
    """Return `log(1 + sum exp(l_i - l_j))` over all i, j with score i below score j.

    Sorted by score, the rows above row i are a suffix, so one cumulative logsumexp serves all
    rows: N log N instead of N x N.
    """
    order = scores_N.float().argsort()
    logits, scores = logits_N[order], scores_N.float()[order]
    suffixes = torch.logcumsumexp(-logits.flip(0), dim=0).flip(0)
    suffixes = F.pad(suffixes, (0, 1), value=-torch.inf)
    above = suffixes[torch.searchsorted(scores, scores, right=True)]
    return torch.logsumexp(F.pad(logits + above, (0, 1)), dim=0)
