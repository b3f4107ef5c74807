"""Draws of a few numbers out of many, the same on every process and after a resume."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn


class Draws(nn.Module):
    """A stream of random subsets; how many were drawn is part of the state dict.

    Args:
        seed: the stream's seed; processes with the same seed draw the same subsets.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.drawn = 0

    def take(self, count: int, limit: int) -> list[int]:
        """Return `count` of the numbers below `limit`, ascending; all if count is no true part."""
        if not 0 < count < limit:
            return list(range(limit))
        generator = random.Random(f"{self.seed}:{self.drawn}")
        self.drawn += 1
        return sorted(generator.sample(range(limit), count))

    def get_extra_state(self) -> Tensor:
        """Return how many subsets were drawn, for `state_dict`."""
        return torch.tensor(self.drawn)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on where `state` was taken."""
        self.drawn = int(state)
