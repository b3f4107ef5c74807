"""Products of float32 on AMX tiles, as exact as float32's own, compiled by Numba.

Every float32 is the sum of three bfloat16; of their nine products the three smallest, each below
2^-26 of the whole, are left out. The six others are summed in float32, as a product of float32 is.
Shapes: N rows, D width, O outputs; D and O are multiples of 32.

Reference: Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence Datatype
For Higher-Precision Computations".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.devices import compiled
from raybert.modules import tiles as amx
from raybert.modules.tiles import BLOCK, PARTS, ROWS, STEP

Array = npt.NDArray[Any]

BIAS, GELU, NORM = range(3)
"""What follows the product: the bias alone, GELU, or a residual sum and its layer norm."""

_NUMBERS_AT_ONCE, _ROWS_AT_ONCE = 98_304, 256
"""How much of the rows is split and multiplied together: a quarter of a core's cache."""

_compiled = compiled(error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
"""Sums may be taken in another order; what is no number stays so."""


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


def multiply_rows(
    x: Array, tiles: Array, bias: Array, y: Array, after: int, more: Array, norm: Array, eps: float
) -> None:
    """Fill y = f(x Wᵀ + b), without holding Python's lock.

    Args:
        x: [N, D] float32, contiguous.
        tiles: W by `pack_tiles`.
        bias: [O] float32.
        y: [N, O] float32, contiguous, aligned to 64 bytes.
        after: `BIAS`, `GELU` or `NORM`.
        more: [N, O], added before the norm; not read otherwise.
        norm: [2, O], the norm's weight and bias; not read otherwise.
        eps: added to the norm's variance.
    """
    width = x.shape[1]
    most = max(BLOCK, min(_ROWS_AT_ONCE, _NUMBERS_AT_ONCE // width // BLOCK * BLOCK))
    room = torch.empty(most // ROWS, width // BLOCK, PARTS, ROWS, BLOCK, dtype=torch.int16)
    last = torch.empty(BLOCK, BLOCK)
    sides, places = (x, tiles), (y, room.numpy(), last.numpy())
    _multiply_rows(sides, places, after, bias, more, norm, np.float32(eps))


@_compiled
def _multiply_rows(
    sides: Any, places: Any, after: Any, bias: Any, more: Any, norm: Any, eps: Any
) -> None:
    """Do as `multiply_rows`; `places` has room for rows split and for a last block of results."""
    (x, tiles), (y, room, last) = sides, places
    outputs, panel = y.shape[1], x.shape[1] // BLOCK * STEP
    most = len(room) * ROWS
    amx.set_up(amx.CONFIGURATION.ctypes.data)
    for start in range(0, len(x), most):
        count = min(most, len(x) - start)
        _split_rows(x, start, count, room)
        for column in range(0, outputs, BLOCK):
            weights = tiles.ctypes.data + column // ROWS * panel
            ahead = weights + 2 * panel if column + BLOCK < outputs else tiles.ctypes.data
            for row in range(0, count, BLOCK):
                rows = room.ctypes.data + row // ROWS * panel
                soon = ahead + row // BLOCK * panel // 4
                if row + BLOCK <= count:
                    at = y.ctypes.data + ((start + row) * outputs + column) * 4
                    amx.multiply(rows, weights, panel, at, outputs * 4, soon)
                else:
                    amx.multiply(rows, weights, panel, last.ctypes.data, BLOCK * 4, soon)
                    for each in range(count - row):
                        for at in range(BLOCK):
                            y[start + row + each, column + at] = last[each, at]
        for row in range(start, start + count):
            _finish(y[row], bias, after, more[row], norm, eps)
    amx.give_back()


@_compiled
def _split_rows(x: Any, start: Any, count: Any, room: Any) -> None:
    """Write rows as tiles of their parts."""
    steps = room.shape[1]
    for row in range(count):
        numbers = x.ctypes.data + (start + row) * steps * BLOCK * 4
        out = room.ctypes.data + (row // ROWS * steps * STEP + row % ROWS * BLOCK * 2)
        for step in range(steps):
            for half in range(2):
                at = (step * 2 + half) * ROWS * 4
                amx.split(numbers + at, out + step * STEP + half * ROWS * 2)


@_compiled
def _finish(line: Any, bias: Any, after: Any, more: Any, norm: Any, eps: Any) -> None:
    """Do in place what follows the product of a row."""
    size = np.float32(len(line))
    if after == GELU:
        for at in range(0, len(line), ROWS):
            amx.gelu(line.ctypes.data + at * 4, bias.ctypes.data + at * 4)
    elif after == NORM:
        total = np.float32(0)
        for at in range(len(line)):
            value = line[at] + bias[at] + more[at]
            line[at] = value
            total += value
        mean, spread = total / size, np.float32(0)
        for at in range(len(line)):
            spread += (line[at] - mean) * (line[at] - mean)
        inverse = np.float32(1) / np.sqrt(spread / size + eps)
        for at in range(len(line)):
            line[at] = (line[at] - mean) * inverse * norm[0, at] + norm[1, at]
    else:
        for at in range(len(line)):
            line[at] += bias[at]
