"""Matryoshka: any loss, on the embeddings cut to several widths. Shapes: N rows, D width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.errors import InputError, SettingsError
from raybert.losses.draws import Draws
from raybert.losses.loss import LAYERS, CompoundLoss, LabelKind, Loss, LossInputs, Terms


class MatryoshkaLoss(CompoundLoss):
    """Makes the first 32, 64, ... coordinates good embeddings by themselves.

    `sum_d w_d L(normalize(e[:d]))` over the widths d, arXiv:2205.13147. Every cut, the full width
    too, is brought to length 1. Teacher vectors as wide as the embeddings are cut with them.

    Args:
        loss: any loss.
        matryoshka_dims: the widths.
        matryoshka_weights: w_d, in the order of the widths; 1 each by default.
        n_dims_per_step: how many widths a step draws at random; -1 takes all.
        seed: of that draw.

    Prefer:
        Around the loss of choice whenever embeddings may be cut to save memory; costs no second
        forward pass. Matryoshka2dLoss when layers are to be dropped too.
    """

    def __init__(
        self,
        loss: Loss,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
        n_dims_per_step: int = -1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        weights = [1.0] * len(matryoshka_dims) if matryoshka_weights is None else matryoshka_weights
        if not matryoshka_dims or min(matryoshka_dims) < 1:
            raise SettingsError(f"matryoshka_dims {list(matryoshka_dims)}: widths above 0 needed")
        if len(weights) != len(matryoshka_dims):
            raise SettingsError(
                f"matryoshka_weights: {len(weights)} for {len(matryoshka_dims)} matryoshka_dims"
            )
        ordered = sorted(zip(matryoshka_dims, weights, strict=True), reverse=True)
        self.matryoshka_dims = tuple(width for width, _ in ordered)
        self.matryoshka_weights = tuple(weight for _, weight in ordered)
        self.n_dims_per_step = n_dims_per_step
        self.loss = loss
        self.draws = Draws(seed)
        self.follow(loss)
        # A drawn set of widths must serve all rows of a batch, so it cannot be taken row by row.
        self.by_rows = loss.by_rows and not 0 < n_dims_per_step < len(ordered)

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the inner terms, summed over the widths with their weights."""
        terms: Terms = {}
        for index in self.draws.take(self.n_dims_per_step, len(self.matryoshka_dims)):
            width, weight = self.matryoshka_dims[index], self.matryoshka_weights[index]
            cut_labels = self._labels(inputs, labels, width)
            for name, term in self.loss.terms(_cut_all(inputs, width), cut_labels).items():
                terms[name] = terms.get(name, torch.zeros_like(term)) + weight * term
        return terms

    def at_step(self, step: int, total_steps: int) -> None:
        """Pass the step on."""
        self.loss.at_step(step, total_steps)

    def _labels(self, inputs: LossInputs, labels: Tensor | None, width: int) -> Tensor | None:
        """Cut teacher vectors that are as wide as the embeddings."""
        is_vector = self.labels is LabelKind.VECTOR
        if labels is None or not is_vector or labels.shape[-1] != inputs.columns[0].shape[-1]:
            return labels
        return labels[..., :width]


def _cut_all(inputs: LossInputs, width: int) -> LossInputs:
    """Cut the columns, and the earlier layers' embeddings where there are any."""
    details = {
        name: tuple(_cut(each, width) for each in tensors) if name == LAYERS else tensors
        for name, tensors in inputs.details.items()
    }
    columns = tuple(_cut(column, width) for column in inputs.columns)
    return replace(inputs, columns=columns, details=details)


def _cut(embeddings_ND: Tensor, width: int) -> Tensor:
    """Return the first `width` coordinates, brought to length 1."""
    if width > embeddings_ND.shape[-1]:
        raise InputError(
            f"matryoshka_dims holds {width}, the model's embeddings are "
            f"{embeddings_ND.shape[-1]} wide"
        )
    return F.normalize(embeddings_ND[..., :width], p=2, dim=-1)
