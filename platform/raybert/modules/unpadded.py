"""A stack of layers over real tokens alone, for inference on a GPU in half precision.

Padding is left out before the first layer and put back as zeros behind the last; attention is
FlashAttention over texts of their own lengths (Dao 2023), torch's `varlen_attn`.

Shapes: B batch, T tokens of the longest text, N real tokens of all, D width, H heads, d D / H.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.errors import ModelError
from raybert.modules.packed import activated
from raybert.modules.stacks import Layer, StackForward, find_stack, real_tokens

HALVES = (torch.bfloat16, torch.float16)
"""Number formats that FlashAttention computes in."""
Attend = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""From queries, keys and values [N, H, d], the texts' bounds [B + 1] and the longest length."""


def flash(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int) -> Tensor:
    """Return attention within each text, [N, H, d]; independent of its batch mates."""
    from torch.nn.attention.varlen import varlen_attn

    found: Any = varlen_attn(q, k, v, bounds, bounds, longest, longest, num_splits=1)
    return found  # type: ignore[no-any-return]


class UnpaddedForward(StackForward):
    """The stack without its padding.

    Args:
        stack: the stack of layers.
        config: its model's configuration.
        parts: names the parts of a layer.
        device: kind of device it is for; on others the stack's own forward runs.
        attend: attention over texts of their own lengths.
    """

    def __init__(
        self,
        stack: Any,
        config: Any,
        parts: Callable[[Any], Layer],
        device: str = "cuda",
        attend: Attend = flash,
    ) -> None:
        super().__init__(stack, config, parts)
        self.device = device
        self.attend = attend

    def _fits(self, x: Tensor) -> bool:
        """Tell whether this is the device."""
        return x.device.type == self.device

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Run the layers over the real tokens."""
        texts, longest, width = x.shape
        real = real_tokens(x, mask)
        at = real.flatten().nonzero().squeeze(1)
        bounds = F.pad(real.sum(1).cumsum(0), (1, 0)).to(torch.int32)
        flat = x.reshape(-1, width)[at]
        for layer in self.stack.layer:
            flat = self._layer(flat, self.parts(layer), bounds, longest)
        found = x.new_zeros(texts * longest, width)
        found[at] = flat
        return found.view(x.shape)

    def _layer(self, x: Tensor, layer: Layer, bounds: Tensor, longest: int) -> Tensor:
        """Run attention and feed-forward over [N, D], each with its residual and norm."""
        q, k, v = (
            part(x).view(len(x), self.heads, -1) for part in (layer.query, layer.key, layer.value)
        )
        attended = self.attend(q, k, v, bounds, longest).reshape(x.shape)
        x = layer.first_norm(layer.output(attended) + x)
        y: Tensor = layer.second_norm(layer.down(activated(layer.up(x), self.activation)) + x)
        return y


def unpad(model: nn.Module, where: str) -> None:
    """Have a model's stack of layers compute real tokens alone.

    Raises:
        ModelError: its stack is none that is known, or has relative positions.
    """
    found = find_stack(model)
    if found is None or hasattr(found[0], "compute_position_bias"):
        raise ModelError(
            f"{where}: torch:unpadded is for BERT-like stacks without relative positions"
        )
    stack, config, parts = found
    stack.forward = UnpaddedForward(stack, config, parts)
