"""Cross-encoder losses on pairs and on a positive against negatives.

The first text column is joined with each other one, so there is one tensor less than columns:
the logits [N], [N, 1] or, for C classes, [N, C] of (query, text).
Shapes: N rows, C classes, K candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.errors import InputError, SettingsError
from raybert.losses.distillation import teacher_margins
from raybert.losses.loss import LabelKind, Loss, LossInputs

Activation = Callable[[Tensor], Tensor]
"""What a logit goes through before the loss."""


class BinaryCrossEntropyLoss(Loss):
    """Teaches whether a pair belongs together, or which of several labels hold.

    Binary cross-entropy of the logit, mean over labels.

    Args:
        activation_fn: applied to the logits first; none.
        pos_weight: factor of the positive part, for rare positives: about negatives / positives.

    Prefer:
        The first choice for rerankers from mined negatives, labels 0, 1 or in between. With a
        list a query LambdaLoss ranks better at the top.
    """

    columns = ("query", "document")
    joined = 1
    labels = LabelKind.SCORE

    def __init__(
        self, activation_fn: Activation | None = None, pos_weight: float | None = None
    ) -> None:
        super().__init__()
        self.activation_fn = activation_fn or nn.Identity()
        self.pos_weight = pos_weight

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels are 0 to 1, [N] or, for several labels a row, [N, C]."""
        (logits,) = self.take(inputs)
        if labels is None or labels.numel() != logits.numel():
            labels = self.row_labels(labels, inputs.rows)
        logits = self.activation_fn(logits.float()).reshape(labels.shape)
        weight = None if self.pos_weight is None else logits.new_tensor(self.pos_weight)
        return F.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=weight)


class CrossEntropyLoss(Loss):
    """Teaches which of several classes a pair belongs to.

    Cross-entropy over the C logits.

    Args:
        activation_fn: applied to the logits first; none.

    Prefer:
        For models with several labels, such as NLI; with one label BinaryCrossEntropyLoss.
    """

    columns = ("query", "document")
    joined = 1
    labels = LabelKind.CLASS

    def __init__(self, activation_fn: Activation | None = None) -> None:
        super().__init__()
        self.activation_fn = activation_fn or nn.Identity()

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels are class numbers [N], or distributions [N, C]."""
        (logits_NC,) = self.take(inputs)
        if labels is None or not labels.is_floating_point():
            labels = self.row_labels(labels, inputs.rows).long()
        return F.cross_entropy(self.activation_fn(logits_NC.float()), labels)


class MSELoss(Loss):
    """Regresses the logit on a score: `mean (f(x) - y)^2`.

    Args:
        activation_fn: f; none.

    Prefer:
        To copy a teacher's logits pair by pair. MarginMSELoss when only differences matter.
    """

    columns = ("query", "document")
    joined = 1
    labels = LabelKind.SCORE

    def __init__(self, activation_fn: Activation | None = None) -> None:
        super().__init__()
        self.activation_fn = activation_fn or nn.Identity()

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels [N] are scores on the scale of the activated logit."""
        (logits,) = self.take(inputs)
        scores = self.row_labels(labels, inputs.rows).detach().float()
        return F.mse_loss(self.activation_fn(_flat(logits)), scores)


class MarginMSELoss(Loss):
    """Teaches the gap between a positive and its negatives, as a teacher scores them.

    `mean ((f(x_p) - f(x_n)) - margin)^2`, arXiv:2010.02666.

    Args:
        activation_fn: f; none.

    Prefer:
        For distilling a larger cross-encoder; MSELoss to keep its absolute scale.
    """

    columns = ("query", "positive", "negative", "negative*")
    joined = 1
    labels = LabelKind.MARGIN

    def __init__(self, activation_fn: Activation | None = None) -> None:
        super().__init__()
        self.activation_fn = activation_fn or nn.Identity()

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss; labels are margins [N, negatives] or scores [N, 1 + negatives]."""
        logits = [self.activation_fn(_flat(column)) for column in self.take(inputs)]
        logits_NK = torch.stack(logits, dim=1)
        margins = teacher_margins(labels, len(logits_NK), len(logits) - 1).float()
        return F.mse_loss(logits_NK[:, :1] - logits_NK[:, 1:], margins)


class MultipleNegativesRankingLoss(Loss):
    """Tells each query's positive from negatives, its own and some of other rows.

    Cross-entropy of `scale f(x)` over the positive and its negatives; `in_batch_negatives` says
    which pairs the training step scores besides the data's own columns.

    Args:
        num_negatives: texts of other rows a query meets; None takes all.
        scale: inverse temperature.
        activation_fn: f; the sigmoid by default.

    Prefer:
        For (query, positive) data without labels. Mining negatives once and BinaryCrossEntropyLoss
        is mostly faster and better: each in-batch negative costs a forward pass here.
    """

    columns = ("query", "positive", "negative*")
    joined = 1

    def __init__(
        self,
        num_negatives: int | None = 4,
        scale: float = 10.0,
        activation_fn: Activation | None = torch.sigmoid,
    ) -> None:
        super().__init__()
        if num_negatives is not None and num_negatives < 1:
            raise SettingsError(f"num_negatives {num_negatives}: at least 1, or none to take all")
        self.num_negatives = num_negatives
        self.scale = scale
        self.activation_fn = activation_fn or nn.Identity()

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the mean over rows; the first column is the positive's, labels are not used."""
        logits_NK = torch.stack([_flat(column) for column in self.take(inputs)], dim=1)
        logits_NK = self.activation_fn(logits_NK) * self.scale
        return F.cross_entropy(logits_NK, torch.zeros_like(logits_NK[:, 0], dtype=torch.long))


def in_batch_negatives(
    rows: int, columns: int, num_negatives: int | None, generator: torch.Generator | None = None
) -> Tensor:
    """Choose texts of other rows as negatives of each query.

    Args:
        rows: N, queries in the batch.
        columns: document columns, laid end to end; text j of column c has number c N + j.
        num_negatives: how many a row, without repetition; None or too many takes all.
        generator: source of chance.

    Returns:
        Tensor int64 [N, negatives] of text numbers, never one of the query's own row.
    """
    allowed = ~torch.eye(rows, dtype=torch.bool).repeat(1, columns)
    if num_negatives is not None and num_negatives < (rows - 1) * columns:
        return torch.multinomial(allowed.float(), num_negatives, generator=generator)
    return allowed.nonzero()[:, 1].reshape(rows, -1)


def _flat(logits: Tensor) -> Tensor:
    """Return logits [N] in float32 at least.

    Raises:
        InputError: the model has more than one label.
    """
    if logits.numel() != logits.shape[0]:
        raise InputError(f"this loss needs a model with 1 label; logits {tuple(logits.shape)}")
    return logits.reshape(-1) if logits.dtype == torch.float64 else logits.reshape(-1).float()
