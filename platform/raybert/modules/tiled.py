"""Linear layers in float32 on a CPU with AMX tiles: faster than its float32, and as exact."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.modules.packed import FastLinear, PackedLinear, activated, worth_tiles
from raybert.modules.tiles import BIAS, BLOCK, GELU, NORM, PARTS, ROWS, Array, multiply_rows

_NO_NORM = np.zeros((2, 1), np.float32)


class TiledLinear(FastLinear):
    """A linear layer whose float32 are multiplied as three bfloat16 each (`tiles.py`).

    It is for a thread alone with its batch; threads that share a batch, and few rows, have
    oneDNN's float32.

    Args:
        linears: layers of one input, whose outputs are put side by side; its width is a multiple
            of 32.
    """

    def __init__(self, *linears: nn.Linear) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        bias = torch.cat([bias_of(linear) for linear in linears])
        self.linears, self.outputs = linears, len(weight)
        self.tiles = pack_tiles(weight)
        self.bias = F.pad(bias, (0, -len(bias) % BLOCK)).numpy()

    @functools.cached_property
    def packed(self) -> PackedLinear:
        """The same layer without tiles; its weights are packed when it is first asked."""
        return PackedLinear(*self.linears)

    def __call__(self, x: Tensor) -> Tensor:
        """Return W x + b."""
        return self._run(x, BIAS) if worth_tiles(len(x)) else self.packed(x)

    def activated(self, x: Tensor, activation: tuple[str, str]) -> Tensor:
        """Return f(W x + b)."""
        if not worth_tiles(len(x)):
            return self.packed.activated(x, activation)
        exact = activation == ("gelu", "none")
        return self._run(x, GELU) if exact else activated(self(x), activation)

    def normed(self, x: Tensor, residual: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return norm(W x + b + residual)."""
        affine = norm.weight is not None and norm.bias is not None
        if not (affine and worth_tiles(len(x)) and self.outputs == len(self.bias)):
            return self.packed.normed(x, residual, norm)
        ends = torch.stack([norm.weight.detach(), norm.bias.detach()])
        return self._run(x, NORM, residual.contiguous(), ends.numpy(), norm.eps)

    def _run(
        self,
        x: Tensor,
        after: int,
        residual: Tensor | None = None,
        norm: Array = _NO_NORM,
        eps: float = 0.0,
    ) -> Tensor:
        """Return the product and what follows it."""
        y = torch.empty(len(x), len(self.bias))
        places = y.numpy()
        more = places if residual is None else residual.numpy()
        multiply_rows(x.contiguous().numpy(), self.tiles, self.bias, places, after, more, norm, eps)
        return y[:, : self.outputs]


def bias_of(linear: Any) -> Tensor:
    """Return a layer's bias [O]; zeros where it has none."""
    if linear.bias is None:
        return torch.zeros(linear.out_features)
    bias: Tensor = linear.bias
    return bias.detach()


def pack_tiles(weight: Tensor) -> Array:
    """Lay weights out as tiles.

    Args:
        weight: [O, D] float32; rows of zeros are added to a multiple of 32.

    Returns:
        [O / 16, D / 32, 3, 16, 32] int16: the bits of bfloat16, aligned to 64 bytes. In a tile, two
        numbers of each of 16 outputs lie side by side, as the CPU takes them.
    """
    rest = F.pad(weight, (0, 0, 0, -len(weight) % BLOCK))
    parts = torch.empty(PARTS, *rest.shape, dtype=torch.bfloat16)
    for part in parts:
        part.copy_(rest)
        rest = rest - part
    pairs = parts.view(PARTS, len(rest) // ROWS, ROWS, -1, ROWS, 2)
    tiles = pairs.permute(1, 3, 0, 4, 2, 5).contiguous().view(torch.int16)
    return tiles.view(*tiles.shape[:4], BLOCK).numpy()
