"""Training a stack of layers on a CPU without its padding.

All that a layer does, attention aside, it does token by token. So the real tokens of all texts go
through the stack's own layers as one long row, and attention is told, in the mask's place, which of
them are a text. It sees texts of about one length at a time.

Shapes: B batch, T tokens of the longest text, N real tokens of all, D width, H heads, d D / H; n
texts of a piece, w tokens of its longest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from raybert.modules.stacks import find_stack, real_tokens

STEP = 32
"""Texts whose lengths, in whole steps, are the same share a piece: so much padding is attended."""

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""From queries, keys and values [n, H, w, d] and a mask to add, to [n, H, w, d]."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Texts that attention sees at once.

    Args:
        tokens: how many of the N are theirs.
        texts: n.
        width: w.
        places: [tokens] of each among the n · w; None where none of these is padding.
        mask: [n, 1, 1, w] to be added to the scores; None likewise.
    """

    tokens: int
    texts: int
    width: int
    places: Tensor | None
    mask: Tensor | None

    def padded(self, tokens_ND: Tensor) -> Tensor:
        """Return the piece's tokens as texts [n, w, D]."""
        if self.places is not None:
            tokens_ND = _Spread.apply(tokens_ND, self.places, self.texts * self.width)  # type: ignore[no-untyped-call]
        return tokens_ND.view(self.texts, self.width, -1)

    def flat(self, texts_NTD: Tensor) -> Tensor:
        """Return the texts' tokens, without padding."""
        tokens_ND = texts_NTD.reshape(self.texts * self.width, -1)
        if self.places is not None:
            tokens_ND = _Gather.apply(tokens_ND, self.places)  # type: ignore[no-untyped-call]
        return tokens_ND


@dataclass(frozen=True, slots=True)
class Pieces:
    """All texts of a pass.

    Args:
        order: [N] of each token among the B · T, piece by piece.
        pieces: in the order of their tokens.
    """

    order: Tensor
    pieces: list[Piece]

    @classmethod
    def of(cls, real_BT: Tensor) -> Pieces:
        """Cut texts into pieces of about one length; texts without tokens are in none.

        Args:
            real_BT: bool, which tokens are no padding.
        """
        lengths = real_BT.sum(1)
        steps = (-(-lengths // STEP)).tolist()
        rows = sorted(filter(steps.__getitem__, range(len(steps))), key=steps.__getitem__)
        order, pieces = [], []
        for _, each in groupby(rows, key=steps.__getitem__):
            among = torch.tensor(list(each))
            real = real_BT[among]
            texts, width = len(among), int(lengths[among].max())
            at = real.flatten().nonzero().squeeze(1)
            row, column = at // real.shape[1], at % real.shape[1]
            order.append(among[row] * real.shape[1] + column)
            # Where padding is on the left, a text's tokens still lie together: count them.
            place = row * width + real.cumsum(1).flatten()[at] - 1
            if len(at) == texts * width:
                pieces.append(Piece(len(at), texts, width, None, None))
                continue
            mask = torch.full((texts * width,), -torch.inf)
            mask[place] = 0
            pieces.append(Piece(len(at), texts, width, place, mask.view(texts, 1, 1, width)))
        return cls(torch.cat(order), pieces)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend) -> Tensor:
        """Attend within each text, [1, H, N, d] to [1, N, H, d]."""
        shape = query.transpose(1, 2).shape
        counts = [piece.tokens for piece in self.pieces]
        parts = (
            torch.split(each[0].transpose(0, 1).reshape(shape[1], -1), counts)
            for each in (query, key, value)
        )
        found = []
        for piece, *flat in zip(self.pieces, *parts, strict=True):
            q, k, v = (
                piece.padded(each).view(piece.texts, piece.width, shape[2], -1).transpose(1, 2)
                for each in flat
            )
            found.append(piece.flat(attend(q, k, v, piece.mask).transpose(1, 2)))
        return torch.cat(found).view(shape)


class _Spread(torch.autograd.Function):
    """Put rows in their places among zeros; `_Gather` is the way back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, count: int) -> Tensor:
        ctx.places = places
        return rows.new_zeros(count, rows.shape[1]).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, ctx.places), None, None


class _Gather(torch.autograd.Function):
    """Take rows from their places."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.places, ctx.count = places, len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        zeros = gradient.new_zeros(ctx.count, gradient.shape[1])
        return zeros.index_copy_(0, ctx.places, gradient), None


class PaddingFree:
    """Stands in for a stack's `forward`: without padding while it trains, as before elsewhere.

    Args:
        stack: the stack of layers, whose attention takes `Pieces` for a mask.
        config: its model's configuration.
    """

    def __init__(self, stack: Any, config: Any) -> None:
        self.stack, self.config = stack, config
        self.plain: Callable[..., Any] = stack.forward

    def __call__(self, hidden_states: Tensor, attention_mask: Any = None, **options: Any) -> Any:
        """Run the stack over [B, T, D]."""
        if not self._possible(hidden_states, attention_mask, options):
            return self.plain(hidden_states, attention_mask=attention_mask, **options)
        texts, longest, width = hidden_states.shape
        real = real_tokens(hidden_states, attention_mask)
        if not real.any():
            return self.plain(hidden_states, attention_mask=attention_mask, **options)
        pieces = Pieces.of(real)
        flat: Tensor = _Gather.apply(hidden_states.reshape(-1, width), pieces.order)  # type: ignore[no-untyped-call]
        found = type(self.stack).forward(self.stack, flat[None], attention_mask=pieces, **options)
        tokens = _Spread.apply(found.last_hidden_state[0], pieces.order, texts * longest)  # type: ignore[no-untyped-call]
        found.last_hidden_state = tokens.view(texts, longest, width)
        return found

    def _possible(self, x: Tensor, mask: Any, options: dict[str, Any]) -> bool:
        """Tell whether the stack trains with a mask, and only its last layer is asked for."""
        return (
            self.stack.training
            and x.device.type == "cpu"
            and isinstance(mask, Tensor)
            and mask.ndim == 4
            and not self.config.output_hidden_states
            and not self.config.output_attentions
            and options.get("past_key_values") is None
            and options.get("encoder_hidden_states") is None
        )


def leave_padding_out(model: nn.Module) -> None:
    """Have a model's stack of layers train without padding.

    Unknown stacks, and those with relative positions, keep it.
    """
    if (found := find_stack(model)) and not hasattr(found[0], "compute_position_bias"):
        stack, config, _ = found
        stack.forward = PaddingFree(stack, config)
