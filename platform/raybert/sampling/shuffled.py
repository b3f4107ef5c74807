"""Every row once, in a new order each epoch, or in the order of the data."""

from __future__ import annotations

import numpy as np
import torch

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
