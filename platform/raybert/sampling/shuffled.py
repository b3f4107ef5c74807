"""Every row once, in a new order each epoch, or in the order of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from raybert.errors import SettingsError
from raybert.sampling.batches import BatchSampler, Plan


class ShuffledBatchSampler(BatchSampler):
    """Cuts a permutation of the rows into batches.

    Args:
        rows: number of rows of the data.
        batch_size: rows of a batch, of all ranks together.
        drop_last: leave out the last batch if it is not full.
        seed: the permutation of epoch e is drawn with `seed + e`.
        shuffle: false keeps the order of the data.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        drop_last: bool = False,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        super().__init__(rows, batch_size, drop_last, seed)
        self.shuffle = shuffle

    def plan(self, epoch: int) -> Plan:
        """Return the batches of an epoch."""
        order = np.arange(self.rows)
        if self.shuffle:
            order = torch.randperm(self.rows, generator=self.generator(epoch)).numpy()
        ends = np.arange(self.batch_size, self.rows + 1, self.batch_size)
        if self.rows % self.batch_size and not self.drop_last:
            ends = np.append(ends, self.rows)
        return Plan(order, ends)


class WindowedBatchSampler(BatchSampler):
    """Cuts a permutation of each window's rows into batches, window after window.

    Args:
        rows: number of rows of the data.
        window: rows of a window; no batch holds rows of two.
        batch_size: rows of a batch, of all ranks together.
        drop_last: leave out a window's last batch if it is not full.
        seed: the permutations of epoch e are drawn with `seed + e`.

    Raises:
        SettingsError: a window holds no batch.
    """

    def __init__(
        self, rows: int, window: int, batch_size: int, drop_last: bool = False, seed: int = 0
    ) -> None:
        super().__init__(rows, batch_size, drop_last, seed)
        if window < batch_size:
            raise SettingsError(f"window {window}: batches of {batch_size} rows do not fit")
        self.window = window

    def plan(self, epoch: int) -> Plan:
        """Return the batches of an epoch."""
        generator = self.generator(epoch)
        return Plan.of(
            batch.tolist()
            for start in range(0, self.rows, self.window)
            for batch in torch.split(
                torch.randperm(min(self.window, self.rows - start), generator=generator) + start,
                self.batch_size,
            )
            if len(batch) == self.batch_size or not self.drop_last
        )

    def signature(self) -> dict[str, Any]:
        """Return what a state must have been saved with, the window too."""
        return {**super().signature(), "window": self.window}
