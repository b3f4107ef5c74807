"""What every loss is: a function of tensors, with its columns and its kind of label as data.

A loss never sees a model. It is given what the model made of a batch (`LossInputs`) and the
labels, so that gathering negatives from other processes and caching gradients are steps of
training that work with any loss. Shapes: N rows of a batch, B own rows of them, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import torch
from torch import Tensor, nn

from raybert.errors import InputError, SettingsError

Terms = dict[str, Tensor]
"""The addends of a loss by name, each a scalar."""

GUIDE = "guide"
"""Detail: a guide model's embeddings [N, D'] of each column."""
LAYERS = "layers"
"""Detail: embeddings [N, L, D] pooled from the L earlier layers of the model, first layer first."""


class LabelKind(StrEnum):
    """What stands in the label column of a row."""

    NONE = "none"
    SCORE = "a score (float)"
    BINARY = "0 or 1"
    CLASS = "a class number"
    MARGIN = "a margin, or margins, or the scores of positive and negatives"
    SCORES = "teacher scores, one a candidate"
    VECTOR = "a teacher vector, or one a column"
    LIST = "a list of labels, one a document"
    TOKENS = "target token ids"


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What the model made of one batch, column by column.

    Args:
        columns: one tensor a text column: embeddings [N, D], or a cross-encoder's logits.
        details: further outputs by name (`GUIDE`, `LAYERS`, ...), one tensor a column, rows first.
        own: the rows this process answers for; None means all. A loss with `by_rows` returns the
            mean over its own rows only, the others serve as candidates.
    """

    columns: tuple[Tensor, ...]
    details: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    own: slice | None = None

    @classmethod
    def of(cls, *columns: Tensor, **details: Sequence[Tensor]) -> LossInputs:
        """Return the inputs of these columns, all rows being our own."""
        return cls(columns, {name: tuple(tensors) for name, tensors in details.items()})

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return self.columns[0].shape[0]

    @property
    def own_rows(self) -> Tensor:
        """Numbers of our own rows, int64 [B], on the columns' device."""
        start, stop, _ = (self.own or slice(None)).indices(self.rows)
        return torch.arange(start, stop, device=self.columns[0].device)

    def detail(self, name: str) -> tuple[Tensor, ...]:
        """Return the detail called `name`.

        Raises:
            InputError: the training step did not provide it.
        """
        if name not in self.details:
            given = ", ".join(self.details) or "none"
            raise InputError(f"this loss needs the model's {name!r} besides embeddings; {given}")
        return self.details[name]

    def map(self, change: Callable[[Tensor], Tensor]) -> LossInputs:
        """Return the inputs with every tensor changed."""
        details = {name: tuple(map(change, tensors)) for name, tensors in self.details.items()}
        return replace(self, columns=tuple(map(change, self.columns)), details=details)

    def with_columns(self, columns: Sequence[Tensor]) -> LossInputs:
        """Return the inputs with other columns, details kept."""
        return replace(self, columns=tuple(columns))

    def with_own(self, own: slice) -> LossInputs:
        """Return the inputs with `own` as the rows to answer for."""
        return replace(self, own=own)


class Loss(nn.Module, ABC):
    """Ground of all losses.

    `columns` names the data's text columns in order; a name ending in `*` stands for any number
    of columns, none included. Names are for people: data is matched by the number of columns.
    """

    columns: tuple[str, ...]
    labels: LabelKind = LabelKind.NONE
    joined: int = 0
    """How many fewer tensors than text columns there are: 0 with one embedding a column, 1 where
    the first column is read together with each other one, as cross-encoders do."""
    in_batch: bool = False
    """Whether rows of a batch meet each other, or are summed up, so that the loss of a whole batch
    is not the mean of the losses of its parts."""
    by_rows: bool = False
    """Whether the loss is a mean over rows and honours `LossInputs.own`."""

    @abstractmethod
    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the addends of the loss by name; their sum is the loss."""
        return {"loss": self(inputs, labels)}

    def at_step(self, step: int, total_steps: int) -> None:
        """Learn that optimizer step `step` (from 0) of `total_steps` begins; schedules use it."""

    @property
    def column_counts(self) -> tuple[int, int | None]:
        """Fewest and most text columns (None: no limit)."""
        fewest = sum(not name.endswith("*") for name in self.columns)
        return fewest, fewest if fewest == len(self.columns) else None

    def wants_label(self, columns: int) -> bool | None:
        """Say whether data of so many text columns needs a label; None: it may have one."""
        return self.labels not in (LabelKind.NONE, LabelKind.TOKENS)

    def follow(self, loss: Loss) -> None:
        """Take columns and labels over from a loss this one is built around."""
        self.columns, self.labels, self.joined = loss.columns, loss.labels, loss.joined
        self.in_batch, self.by_rows = loss.in_batch, loss.by_rows

    def take(self, inputs: LossInputs) -> tuple[Tensor, ...]:
        """Return the columns of `inputs`.

        Raises:
            InputError: there are fewer or more than this loss uses.
        """
        fewest, most = self.column_counts
        count = len(inputs.columns) + self.joined
        if count < fewest or (most is not None and count > most):
            names = ", ".join(self.columns)
            raise InputError(f"{type(self).__name__} needs the columns {names}; {count} given")
        return inputs.columns

    def row_labels(self, labels: Tensor | None, rows: int) -> Tensor:
        """Return labels [N], one a row.

        Raises:
            InputError: there are none, or not one a row.
        """
        if labels is None or labels.numel() != rows:
            given = "none" if labels is None else f"shape {tuple(labels.shape)}"
            raise InputError(f"{type(self).__name__} needs {rows} labels, one a row; {given} given")
        return labels.reshape(-1)


class CompoundLoss(Loss):
    """A loss of several addends, which a training run logs one by one."""

    @abstractmethod
    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the addends of the loss by name."""

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        """Return the sum of the addends."""
        return total(self.terms(inputs, labels))


def total(terms: Terms) -> Tensor:
    """Return the sum of the addends."""
    return torch.stack(list(terms.values())).sum()


def one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    """Return `value` if it is allowed.

    Raises:
        SettingsError: it is not; the message names the setting and what is allowed.
    """
    if value not in allowed:
        raise SettingsError(f"{name} {value!r}: allowed are {', '.join(allowed)}")
    return value


def positive(name: str, value: float) -> float:
    """Return `value` if it is a finite number above zero.

    Raises:
        SettingsError: it is not.
    """
    if not 0 < value < float("inf"):
        raise SettingsError(f"{name} {value!r}: a finite number above 0 is needed")
    return value
