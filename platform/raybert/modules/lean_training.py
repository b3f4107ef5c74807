"""What training on a CPU wastes, spared: whole gradients of look-ups, and dear dice for dropout.

A pass over a few texts makes torch fill a gradient as large as the whole vocabulary's vectors; here
the rows that were looked up are added to it. And torch draws a number for each value that dropout
looks at; here one draw decides on four. Shapes: B batch, H heads, T tokens, D width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ATTENTION = "raybert_lean"
"""Name under which transformers knows this attention."""
LANES = 4
"""Chances of 16 bits that one draw of 64 gives."""
STEPS = 1 << 16
"""Shares of values to drop are whole multiples of 1 / STEPS."""


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
    """Dropout whose chances have 16 bits."""

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
    def forward(ctx: Any, values: Tensor, dropped: int) -> Tensor:
        lost = _chances(values.shape).lt(dropped - STEPS // 2)
        ctx.save_for_backward(lost)
        ctx.scale = STEPS / (STEPS - dropped)
        kept: Tensor = (values * ctx.scale).masked_fill_(lost, 0)
        return kept

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (lost,) = ctx.saved_tensors
        return (gradients[0] * ctx.scale).masked_fill_(lost, 0), None


def lean_dropout(values: Tensor, share: float) -> Tensor:
    """Set a share of the values to 0 and scale the others, so that the mean stays."""
    dropped = round(share * STEPS)
    if values.device.type != "cpu" or not 0 < dropped < STEPS:
        return nn.functional.dropout(values, share)
    found: Tensor = _Drop.apply(values, dropped)  # type: ignore[no-untyped-call]
    return found


def _chances(shape: torch.Size) -> Tensor:
    """Return whole numbers of 16 bits, each as likely as any other."""
    count = shape.numel()
    draws = torch.empty(-(-count // LANES), dtype=torch.int64)
    draws.random_(torch.iinfo(torch.int64).min, None)
    return draws.view(torch.int16)[:count].view(shape)


def _attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as `sdpa` does; where values are dropped, by lean dropout."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

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
    scale = query_BHTD.shape[-1] ** -0.5 if scaling is None else scaling
    scores_BHTT = (query_BHTD * scale) @ key_BHTD.transpose(2, 3)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores_BHTT = scores_BHTT.masked_fill(~attention_mask, torch.finfo(scores_BHTT.dtype).min)
    elif attention_mask is not None:
        scores_BHTT = scores_BHTT + attention_mask
    shares_BHTT = lean_dropout(scores_BHTT.softmax(-1), dropout)
    return (shares_BHTT @ value_BHTD).transpose(1, 2).contiguous(), None


def _register() -> None:
    """Make the attention known to transformers, with the masks of `sdpa`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
