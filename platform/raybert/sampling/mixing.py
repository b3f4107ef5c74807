"""Batches from several datasets, each batch from one of them.

Rows are numbered through: dataset 1 begins where dataset 0 ends; `locate` says whose a batch is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch

from raybert.errors import InputError, SettingsError
from raybert.sampling.batches import BatchSampler, Plan


class MixedBatchSampler(BatchSampler):
    """Ground of samplers that mix: an order in which the parts' samplers give a batch each.

    Args:
        parts: one sampler a dataset.
        seed: the order of epoch e is drawn with `seed + e`.

    Raises:
        SettingsError: there are no parts.
    """

    def __init__(self, parts: Sequence[BatchSampler], seed: int = 0) -> None:
        if not parts:
            raise SettingsError("mixing needs one dataset at least")
        rows = [part.rows for part in parts]
        super().__init__(sum(rows), max(part.batch_size for part in parts), seed=seed)
        self.parts = list(parts)
        self.offsets = [0, *accumulate(rows)]

    @abstractmethod
    def order(self, counts: Sequence[int], generator: torch.Generator) -> list[int]:
        """Return the dataset of each batch, given how many batches each has."""

    def plan(self, epoch: int) -> Plan:
        """Return the batches of an epoch, in numbers of the whole."""
        plans = [part.plan(epoch) for part in self.parts]
        order = self.order([len(plan) for plan in plans], self.generator(epoch))
        return Plan.of(self._batches(plans, order))

    def locate(self, batch: Sequence[int]) -> tuple[int, list[int]]:
        """Return a batch's dataset and its rows in the numbers of that dataset.

        Raises:
            InputError: the batch is empty, or of several datasets.
        """
        for number, (start, end) in enumerate(zip(self.offsets, self.offsets[1:], strict=False)):
            if batch and all(start <= row < end for row in batch):
                return number, [row - start for row in batch]
        raise InputError(f"batch {list(batch)[:8]} is not of one of the {len(self.parts)} datasets")

    def signature(self) -> dict[str, Any]:
        """Return what a state must have been saved with, of every part too."""
        return {**super().signature(), "parts": [part.signature() for part in self.parts]}

    def _batches(self, plans: Sequence[Plan], order: Sequence[int]) -> Iterator[list[int]]:
        steps = [0] * len(plans)
        for number in order:
            yield [row + self.offsets[number] for row in plans[number][steps[number]]]
            steps[number] += 1


class ProportionalBatchSampler(MixedBatchSampler):
    """Draws datasets in proportion to their batches, until every batch of all was given."""

    def order(self, counts: Sequence[int], generator: torch.Generator) -> list[int]:
        """Return each dataset as often as it has batches, shuffled."""
        ordered = [number for number, count in enumerate(counts) for _ in range(count)]
        shuffled = torch.randperm(len(ordered), generator=generator).tolist()
        return [ordered[place] for place in shuffled]


class RoundRobinBatchSampler(MixedBatchSampler):
    """Takes the datasets in turn, until the one with the fewest batches is used up."""

    def order(self, counts: Sequence[int], generator: torch.Generator) -> list[int]:
        """Return all datasets in turn, as often as the shortest allows."""
        return list(range(len(counts))) * min(counts)
