"""Losses that bring another model along: a decoder, a second copy, a guide; or that are several.

Each wraps a loss of `raybert.losses` and hands it what it lacks. What is trained lies in the
wrapper's parameters, so optimizer and checkpoint see it. Shapes: N rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from raybert.losses import Loss, LossInputs, Terms
from raybert.losses.loss import CompoundLoss
from raybert.modules.decoder import Decoder
from raybert.modules.module import ModuleSequence
from raybert.training.gather import GatheredLoss


class _Around(CompoundLoss):
    """A loss around another, with its columns and labels."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss
        self.follow(loss)

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the inner loss's terms."""
        return self.loss.terms(inputs, labels)

    def at_step(self, step: int, total_steps: int) -> None:
        """Pass the step on."""
        self.loss.at_step(step, total_steps)


class DecodedLoss(_Around):
    """A denoising loss with its decoder: from embeddings [N, D] and token ids [N, T].

    Args:
        loss: compares the decoder's logits with the next tokens.
        decoder: rebuilds the text.
    """

    def __init__(self, loss: Loss, decoder: Decoder) -> None:
        super().__init__(loss)
        self.decoder = decoder

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the loss of the logits; labels [N, T] are the whole text's token ids."""
        ids_NT = self.row_ids(labels)
        logits_NTV = self.decoder(inputs.columns[0], ids_NT[:, :-1])
        return self.loss.terms(LossInputs.of(logits_NTV), ids_NT[:, 1:])

    def row_ids(self, labels: Tensor | None) -> Tensor:
        """Return the token ids, which collating makes of the clean texts."""
        assert labels is not None
        return labels


class TwinLoss(_Around):
    """A loss over two copies of the model, which are trained apart; this holds the second.

    Args:
        loss: compares the copies.
        twin: the copy that embeds the second column.
    """

    def __init__(self, loss: Loss, twin: ModuleSequence) -> None:
        super().__init__(loss)
        self.twin = twin


class DetailedLoss(_Around):
    """A loss whose inputs get further details, for one batch.

    Args:
        loss: the loss.
        details: by name, one tensor a column, of this process's rows.
    """

    def __init__(self, loss: Loss, details: Mapping[str, Sequence[Tensor]]) -> None:
        super().__init__(loss)
        self.details = {name: tuple(tensors) for name, tensors in details.items()}

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the loss's terms, given the details too."""
        return self.loss.terms(replace(inputs, details={**inputs.details, **self.details}), labels)


class PartLosses(CompoundLoss):
    """The losses of several datasets; a batch is of one of them.

    Args:
        losses: in the order of the datasets.
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        super().__init__()
        self.follow(losses[0])
        self.losses = nn.ModuleList(losses)

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the terms of the first dataset's loss; the step asks `of` a dataset."""
        return self.of(0).terms(inputs, labels)

    def of(self, part: int) -> Loss:
        """Return the loss of a dataset."""
        loss = self.losses[part]
        assert isinstance(loss, Loss)
        return loss

    def at_step(self, step: int, total_steps: int) -> None:
        """Pass the step on to all."""
        for part in range(len(self.losses)):
            self.of(part).at_step(step, total_steps)


def innermost(loss: Loss) -> Loss:
    """Return the loss inside wrappers of training: the one the user named."""
    while isinstance(loss, (_Around, GatheredLoss)):
        loss = loss.loss
    return loss


def told(loss: Loss) -> str:
    """Return the name of a loss as the user knows it; of several, all names."""
    parts = [loss]
    if isinstance(loss, PartLosses):
        parts = [loss.of(at) for at in range(len(loss.losses))]
    return ", ".join(type(innermost(part)).__name__ for part in parts)
