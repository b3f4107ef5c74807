"""Dropout in one pass, compiled by Numba: chances are counted from a seed and never stored.

Value number i stays if a hash of i and the seed says so (the mixing steps of MurmurHash3's
finalizer, with half of the seed in their middle), so the backward pass asks again instead of
keeping a mask, as in Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raybert.devices import compiled

CHANCES = 1 << 32
"""Shares of values to drop are whole multiples of 1 / CHANCES."""

_STRIDE, _FIRST, _SECOND = np.uint32(0x9E3779B9), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_HALF, _MIDDLE = np.uint32(16), np.uint32(13)


@compiled()
def drop(values: Any, seed: Any, dropped: Any, scale: Any, kept: Any) -> None:
    """Write `values` times `scale` to `kept`, and 0 where the chance is below `dropped`.

    Args:
        values: [N] float32.
        seed: [2] uint32.
        dropped: uint32, of `CHANCES`.
        scale: float32.
        kept: [N] float32, to be filled.
    """
    start, middle = seed
    for at in range(len(values)):
        chance = np.uint32(np.uint32(at) * _STRIDE + start)
        chance = np.uint32((chance ^ (chance >> _HALF)) * _FIRST) ^ middle
        chance = np.uint32((chance ^ (chance >> _MIDDLE)) * _SECOND)
        kept[at] = values[at] * scale if chance >= dropped else np.float32(0)
