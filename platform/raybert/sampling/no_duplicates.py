"""Batches in which no value comes twice, so that no in-batch negative is a positive in truth."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from raybert.errors import InputError
from raybert.sampling.batches import BatchSampler, Plan

RESAMPLED_PASSES = 2
"""How often the data is gone through again, at most, to make up for dropped batches."""


class NoDuplicatesBatchSampler(BatchSampler):
    """Fills each batch with the first rows, in shuffled order, that share no value with it.

    A row that shares a value waits for a later batch and is served first there. Nothing is lost;
    with many equal values there are more batches than `rows / batch_size`, some of them smaller.
    With `drop_last` small batches are left out and, with `resample`, made up for by going through
    the data again, up to `rows // batch_size` batches.

    Args:
        cells: numbers of the cells [rows, columns], see `hash_cells`; rows are compared by all
            columns, across columns too.
        batch_size: rows of a batch, of all ranks together.
        drop_last: leave out batches that are not full.
        seed: the order of epoch e is drawn with `seed + e`.
        resample: whether dropped batches are made up for.

    Raises:
        InputError: `cells` is not a table.
    """

    def __init__(
        self,
        cells: npt.NDArray[np.integer],
        batch_size: int,
        drop_last: bool = False,
        seed: int = 0,
        resample: bool = True,
    ) -> None:
        if cells.ndim != 2:
            raise InputError(f"cells of shape {cells.shape}: [rows, columns] is needed")
        super().__init__(len(cells), batch_size, drop_last, seed)
        self.resample = resample
        self._values, self._starts = _repeated_values(cells)

    def plan(self, epoch: int) -> Plan:
        """Return the batches of an epoch."""
        generator = self.generator(epoch)
        batches = list(self._pass(generator))
        wanted = self.rows // self.batch_size
        if self.drop_last and self.resample and batches:
            for _ in range(RESAMPLED_PASSES):
                if len(batches) < wanted:
                    batches += list(self._pass(generator))[: wanted - len(batches)]
        return Plan.of(batches)

    def _pass(self, generator: torch.Generator) -> Iterator[list[int]]:
        """Yield the batches of one way through the data, in a new order."""
        order = torch.randperm(self.rows, generator=generator).tolist()
        queue = _Queue(order, self._values, self._starts)
        while queue:
            batch = queue.take(self.batch_size)
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch


class _Queue:
    """Rows in order, some of them waiting under a value that kept them out of a batch.

    A waiting row is looked at again only when its value is not in the batch, so a value that
    thousands of rows share costs no more than one look a batch.
    """

    def __init__(
        self, order: Sequence[int], values: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]
    ) -> None:
        self.order, self.values, self.starts = order, values, starts
        self.fresh = 0
        self.waiting: dict[int, list[int]] = {}
        self.heads: list[tuple[int, int]] = []
        self.listed: dict[int, int] = {}

    def __bool__(self) -> bool:
        return self.fresh < len(self.order) or bool(self.waiting)

    def take(self, size: int) -> list[int]:
        """Return the next batch: the first rows, in order, that share no value."""
        batch: list[int] = []
        taken: set[int] = set()
        held: set[int] = set()
        while len(batch) < size:
            place = self._next(taken, held)
            if place is None:
                break
            values = self._values_of(place)
            shared = next((value for value in values if value in taken), None)
            if shared is None:
                batch.append(self.order[place])
                taken.update(values)
            else:
                heapq.heappush(self.waiting.setdefault(shared, []), place)
                held.add(shared)
        for value in held:
            self._list(value)
        return batch

    def _next(self, taken: set[int], held: set[int]) -> int | None:
        """Return the place of the first row that may fit: a waiting one, else a fresh one."""
        while self.heads:
            place, value = heapq.heappop(self.heads)
            if self.listed.get(value) != place:
                continue  # overtaken: another row waits in front of this one
            del self.listed[value]
            if value in taken:
                held.add(value)
                continue
            queue = self.waiting[value]
            heapq.heappop(queue)
            if not queue:
                del self.waiting[value]
            self._list(value)
            return place
        if self.fresh == len(self.order):
            return None
        self.fresh += 1
        return self.fresh - 1

    def _list(self, value: int) -> None:
        """Put the first row that waits under a value among the heads, once."""
        queue = self.waiting.get(value)
        if queue and self.listed.get(value) != queue[0]:
            self.listed[value] = queue[0]
            heapq.heappush(self.heads, (queue[0], value))

    def _values_of(self, place: int) -> list[int]:
        row = self.order[place]
        values: list[int] = self.values[self.starts[row] : self.starts[row + 1]].tolist()
        return values


def _repeated_values(
    cells: npt.NDArray[np.integer],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the values of each row that come more than once in the data, row after row.

    Row r has `values[starts[r] : starts[r + 1]]`; most rows have none and never wait.
    """
    _, numbers, counts = np.unique(cells.ravel(), return_inverse=True, return_counts=True)
    repeated = (counts[numbers] > 1).reshape(cells.shape)
    starts = np.concatenate([[0], repeated.sum(axis=1).cumsum()]).astype(np.int64)
    return numbers.reshape(cells.shape)[repeated].astype(np.int64), starts
