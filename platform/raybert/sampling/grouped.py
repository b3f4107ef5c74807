"""Batches that hold several texts of each of several labels, for batch triplet losses."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence

import torch

from raybert.errors import InputError, SettingsError
from raybert.sampling.batches import BatchSampler, Plan


class GroupByLabelBatchSampler(BatchSampler):
    """Deals out pairs of rows of one label, label after label, until one label is left.

    Every batch holds at least two labels and at least two rows of each. Labels with one row are
    left out, and so is what remains of the largest label when all others are used up.

    Args:
        labels: one label a row.
        batch_size: rows of a batch, of all ranks together; even, 4 or more.
        drop_last: leave out the last batch if it is not full; one of less than 4 always is.
        seed: the order of epoch e is drawn with `seed + e`.

    Raises:
        SettingsError: the batch size is odd or below 4.
        InputError: fewer than two labels have two rows.
    """

    def __init__(
        self, labels: Sequence[Hashable], batch_size: int, drop_last: bool = False, seed: int = 0
    ) -> None:
        super().__init__(len(labels), batch_size, drop_last, seed)
        if batch_size < 4 or batch_size % 2:
            raise SettingsError(f"batch_size {batch_size}: an even number from 4 on is needed")
        groups: dict[Hashable, list[int]] = {}
        for row, label in enumerate(labels):
            groups.setdefault(label, []).append(row)
        self.groups = [rows for rows in groups.values() if len(rows) >= 2]
        if len(self.groups) < 2:
            raise InputError(
                f"grouping by label needs two labels with two rows each; {len(self.groups)} of "
                f"{len(groups)} labels have two"
            )

    def plan(self, epoch: int) -> Plan:
        """Return the batches of an epoch."""
        dealt = list(self._deal(self.generator(epoch)))
        size = self.batch_size
        batches = [dealt[start : start + size] for start in range(0, len(dealt), size)]
        if batches and len(batches[-1]) < (size if self.drop_last else 4):
            batches.pop()
        return Plan.of(batches)

    def _deal(self, generator: torch.Generator) -> Iterator[int]:
        """Yield rows, pair by pair; within a batch no label's pairs follow each other."""
        piles = [self._shuffled(rows, generator) for rows in self.groups]
        left, last, dealt = list(range(len(piles))), -1, 0
        while len(left) >= 2:
            left = [left[place] for place in torch.randperm(len(left), generator=generator)]
            if left[0] == last and dealt % self.batch_size:
                left[0], left[1] = left[1], left[0]
            for pile in left:
                yield piles[pile].popleft()
                yield piles[pile].popleft()
            last, dealt = left[-1], dealt + 2 * len(left)
            left = [pile for pile in left if piles[pile]]

    @staticmethod
    def _shuffled(rows: Sequence[int], generator: torch.Generator) -> deque[int]:
        """Return an even number of rows in a new order."""
        order = torch.randperm(len(rows), generator=generator)[: len(rows) // 2 * 2]
        return deque(rows[place] for place in order.tolist())
