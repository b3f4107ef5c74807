"""What training on a CPU wastes, spared: whole gradients of look-ups, dear dice, and padding.

A pass over a few texts makes torch fill a gradient as large as the whole vocabulary's vectors; here
the rows that were looked up are added to it. And torch draws a number for each value that dropout
looks at and keeps a mask; here one draw seeds a pass. Padding stays out of the layers where their
stack is known (`padding_free.py`). Shapes: B batch, H heads, T tokens, D width of a head.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raybert.modules.padding_free import Pieces, leave_padding_out

ATTENTION = "raybert_lean"
"""Name under which transformers knows this attention."""


def make_lean(model: Any) -> None:
    """Change a transformers model in place; without dropout, numbers stay as they were."""
    for module in model.modules():
        if type(module) is nn.Embedding and module.weight.requires_grad:
            module.__class__ = LeanEmbedding
        elif type(module) is nn.Dropout:
            module.__class__ = LeanDropout
    if model.config._attn_implementation == "sdpa":
        _register()
        model.config._attn_implementation = ATTENTION
        leave_padding_out(model)


class LeanEmbedding(nn.Embedding):
    """An embedding whose backward pass adds to the gradient only what was looked up."""

    def forward(self, input: Tensor) -> Tensor:
        """Look ids up."""
        weight = self.weight
        if weight.device.type != "cpu" or not (torch.is_grad_enabled() and weight.requires_grad):
            return super().forward(input)
        found: Tensor = _LookUp.apply(weight, input, self.padding_idx)  # type: ignore[no-untyped-call]
        return found


class LeanDropout(nn.Dropout):
    """Dropout in one pass, without a mask."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop a share of the values while training."""
        return lean_dropout(input, float(self.p)) if self.training else input


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int | None) -> Tensor:
        ctx.weight, ctx.padding = weight, padding
        ctx.save_for_backward(ids)
        return weight[ids]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        (ids,), weight = ctx.saved_tensors, ctx.weight
        rows, gradient = ids.flatten(), gradients[0].reshape(-1, weight.shape[1])
        if ctx.padding is not None:
            gradient = gradient * (rows != ctx.padding)[:, None]
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, rows, gradient)
        return None, None, None


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, share: float) -> Tensor:
        ctx.share = share
        ctx.seed = torch.empty(1, dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        return _dropped(values, share, ctx.seed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _dropped(gradients[0], ctx.share, ctx.seed), None


def _dropped(values: Tensor, share: float, seed: Tensor) -> Tensor:
    from raybert.modules import dropped_values  # Numba takes long to import

    values = values.contiguous()
    kept = torch.empty_like(values)
    dropped_values.drop(
        values.view(-1).numpy(),
        seed.numpy().view(np.uint32),
        np.uint32(share * dropped_values.CHANCES),
        np.float32(1 / (1 - share)),
        kept.view(-1).numpy(),
    )
    return kept


def lean_dropout(values: Tensor, share: float) -> Tensor:
    """Set a share of the values to 0 and scale the others, so that the mean stays."""
    if values.device.type != "cpu" or values.dtype != torch.float32 or not 0 < share < 1:
        return nn.functional.dropout(values, share)
    found: Tensor = _Drop.apply(values, share)  # type: ignore[no-untyped-call]
    return found


def _attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | Pieces | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as `sdpa` does; where values are dropped, by lean dropout."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    attend = partial(
        _attend,
        dropout=dropout,
        scale=query_BHTD.shape[-1] ** -0.5 if scaling is None else scaling,
    )
    if isinstance(attention_mask, Pieces):
        return attention_mask.attend(query_BHTD, key_BHTD, value_BHTD, attend), None
    causal = options.get("is_causal", getattr(module, "is_causal", False))
    plain = query_BHTD.shape[1] == key_BHTD.shape[1] and query_BHTD.device.type == "cpu"
    plain = plain and options.get("position_bias") is None and options.get("cache") is None
    if not dropout or not plain or (causal and attention_mask is None):
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module,
            query_BHTD,
            key_BHTD,
            value_BHTD,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            **options,
        )
        return found
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        added = torch.zeros_like(attention_mask, dtype=query_BHTD.dtype)
        attention_mask = added.masked_fill_(~attention_mask, torch.finfo(added.dtype).min)
    attended_BHTD = attend(query_BHTD, key_BHTD, value_BHTD, attention_mask)
    return attended_BHTD.transpose(1, 2).contiguous(), None


def _attend(
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    mask: Tensor | None,
    *,
    dropout: float,
    scale: float,
) -> Tensor:
    """Attend, [B, H, T, D]; written out where shares are dropped.

    Args:
        query_BHTD: and `key_BHTD` and `value_BHTD`.
        key_BHTD: see `query_BHTD`.
        value_BHTD: see `query_BHTD`.
        mask: to be added to the scores.
        dropout: the share of the shares that is dropped.
        scale: of the scores.
    """
    if not dropout:
        found: Tensor = nn.functional.scaled_dot_product_attention(
            query_BHTD, key_BHTD, value_BHTD, attn_mask=mask, scale=scale
        )
        return found
    scores_BHTT = (query_BHTD * scale) @ key_BHTD.transpose(2, 3)
    if mask is not None:
        scores_BHTT += mask
    return lean_dropout(scores_BHTT.softmax(-1), dropout) @ value_BHTD


def _register() -> None:
    """Make the attention known to transformers, with the masks of `sdpa`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
