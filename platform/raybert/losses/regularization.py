"""Losses that shape the space itself and are added to another. Shapes: N rows, D width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raybert.errors import SettingsError
from raybert.losses.loss import CompoundLoss, Loss, LossInputs, Terms, one_of
from raybert.vectors import pick_similarity


class GlobalOrthogonalRegularizationLoss(CompoundLoss):
    """Spreads embeddings over the sphere: unlike texts become orthogonal on average.

    Two terms over the off-diagonal similarities of each column: `mean(s)^2` and
    `relu(mean(s^2) - 1/D)`. arXiv:1708.06320.

    Args:
        similarity_fct: `cosine` or `dot`.
        mean_weight: factor of the first term; None or 0 drops it.
        second_moment_weight: factor of the second term; None or 0 drops it.
        aggregation: `mean` or `sum` over the columns.

    Prefer:
        Never alone; beside MultipleNegativesRankingLoss when embeddings crowd
        together or will be quantized.
    """

    columns = ("text", "text*")
    in_batch = True

    def __init__(
        self,
        similarity_fct: str = "cosine",
        mean_weight: float | None = 1.0,
        second_moment_weight: float | None = 1.0,
        aggregation: str = "mean",
    ) -> None:
        super().__init__()
        if not mean_weight and not second_moment_weight:
            raise SettingsError("mean_weight and second_moment_weight: one must not be zero")
        self.similarity_fct = similarity_fct
        self.matrix = pick_similarity(similarity_fct).matrix
        self.mean_weight = mean_weight
        self.second_moment_weight = second_moment_weight
        self.aggregation = one_of("aggregation", aggregation, ("mean", "sum"))

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return `gor_mean` and `gor_second_moment`; labels are not used."""
        moments = torch.stack([self._moments(column) for column in self.take(inputs)])
        moments = moments.sum(dim=0) if self.aggregation == "sum" else moments.mean(dim=0)
        weights = {"gor_mean": self.mean_weight, "gor_second_moment": self.second_moment_weight}
        return {
            name: weight * moment
            for (name, weight), moment in zip(weights.items(), moments, strict=True)
            if weight
        }

    def _moments(self, embeddings_ND: Tensor) -> Tensor:
        """Return both terms of one column, [2]."""
        rows, width = embeddings_ND.shape
        similarity = self.matrix(embeddings_ND, embeddings_ND)
        others = ~torch.eye(rows, dtype=torch.bool, device=similarity.device)
        similarity, count = similarity * others, max(rows * (rows - 1), 1)
        mean, second = similarity.sum() / count, similarity.square().sum() / count
        return torch.stack([mean.square(), torch.relu(second - 1 / width)])


class SumLoss(CompoundLoss):
    """Adds up losses over the same columns: a loss and its regularizers.

    Args:
        loss: the loss that says which columns and labels are needed.
        others: losses over any columns.

    Prefer:
        To add GlobalOrthogonalRegularizationLoss or a teacher to a loss. Different data for
        different losses needs several datasets, not a sum.
    """

    def __init__(self, loss: Loss, others: Sequence[Loss]) -> None:
        super().__init__()
        self.losses: list[Loss] = [loss, *others]
        for number, each in enumerate(self.losses):
            self.add_module(str(number), each)
        self.follow(loss)
        self.in_batch = any(each.in_batch for each in self.losses)
        self.by_rows = all(each.by_rows for each in self.losses)

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the addends of every loss; a name that comes twice is counted up."""
        terms: Terms = {}
        for loss in self.losses:
            for name, term in loss.terms(inputs, labels).items():
                taken = sum(key.split(".")[0] == name for key in terms)
                terms[f"{name}.{taken + 1}" if taken else name] = term
        return terms

    def at_step(self, step: int, total_steps: int) -> None:
        """Pass the step on."""
        for loss in self.losses:
            loss.at_step(step, total_steps)
