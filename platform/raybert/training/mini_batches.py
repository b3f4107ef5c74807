"""The rows of a batch, cut into mini-batches by rows or tokens. Shapes: N rows, T tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, arange

from raybert.errors import SettingsError
from raybert.training.passes import cheapest_passes


class Rows(Protocol):
    """The texts of one column, ready for the model; `raybert.records.TokenizedTexts` is one."""

    def __len__(self) -> int:
        """Return the number of rows."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each row."""

    def take(self, rows: Sequence[int]) -> Any:
        """Return the rows with these numbers, padded no wider than they need."""


@dataclass(frozen=True, slots=True)
class MiniBatches:
    """How large a mini-batch may be.

    Args:
        rows: most rows of one forward pass.
        tokens: most tokens of one forward pass, padding included; None sets no limit. A single
            longer row still is a mini-batch.
        loss_rows: most rows of which a loss `by_rows` scores candidates at once; None takes all.
        overhead: what a forward pass costs besides its tokens, in tokens; None fills every
            mini-batch up, with however much padding.
    """

    rows: int = 32
    tokens: int | None = None
    loss_rows: int | None = None
    overhead: int | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "tokens", "loss_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"mini-batch {name} {value}: at least 1 is needed")

    def split(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return row numbers a mini-batch, longest rows first, so that little is padding."""
        if self.overhead is not None:
            return cheapest_passes(lengths, self.rows, self.tokens, self.overhead)
        parts: list[list[int]] = []
        for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
            part = parts[-1] if parts else []
            width = lengths[part[0]] if part else 0
            full = len(part) == self.rows
            if not part or full or (self.tokens and (len(part) + 1) * width > self.tokens):
                parts.append([])
            parts[-1].append(row)
        return parts


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images of a column, prepared for the model.

    Args:
        pixels: [N, C, H, W], channels of the image's height and width.
        patches: tokens of the model an image.
    """

    pixels: Tensor
    patches: int

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each image."""
        return [self.patches] * len(self)

    def take(self, rows: Sequence[int]) -> Pictures:
        """Return the images at `rows`, in that order."""
        return Pictures(self.pixels[list(rows)], self.patches)


@dataclass(frozen=True, slots=True)
class TensorRows:
    """Padded features [N, T, ...] as rows; taking some drops token columns none of them uses."""

    features: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row, counted to the last one attended; 1 without an attention mask."""
        mask = self.features.get("attention_mask")
        if mask is None:
            return [1] * len(self)
        places = arange(1, mask.shape[1] + 1, device=mask.device)
        lengths: list[int] = (mask.bool() * places).amax(dim=1).tolist()
        return lengths

    def take(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return the features of some rows."""
        mask = self.features.get("attention_mask")
        lengths = self.lengths
        width = max((lengths[row] for row in rows), default=0)
        taken = {name: tensor[list(rows)] for name, tensor in self.features.items()}
        if mask is None or not width:
            return taken
        return {
            name: tensor[:, :width] if tensor.shape[1:2] == mask.shape[1:2] else tensor
            for name, tensor in taken.items()
        }
