"""What every sampler is: a plan of batches, known in full before the epoch begins.

A plan depends on seed and epoch alone, so every process makes the same one, its length is exact,
and a run resumes at any step by going on in the plan. Batches are of the whole run (all ranks);
`RankBatches` takes one rank's part of each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raybert.errors import InputError, SettingsError


@dataclass(frozen=True, slots=True)
class Plan:
    """The batches of an epoch: row numbers end to end, and where each batch ends."""

    rows: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, batches: Iterable[Sequence[int]]) -> Plan:
        """Return the plan of these batches."""
        rows: list[int] = []
        ends: list[int] = []
        for batch in batches:
            rows.extend(batch)
            ends.append(len(rows))
        return cls(np.array(rows, dtype=np.int64), np.array(ends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, step: int) -> list[int]:
        start = self.ends[step - 1] if step else 0
        batch: list[int] = self.rows[start : self.ends[step]].tolist()
        return batch


class BatchSampler(ABC):
    """Ground of all samplers: iterates over the plan of the current epoch, from `step` on.

    A finished epoch moves on to the next by itself; `set_epoch` with the current epoch changes
    nothing, so a resumed run may call it too.

    Args:
        rows: number of rows of the data.
        batch_size: rows of a batch, of all ranks together.
        drop_last: leave out batches that are not full.
        seed: the plan of epoch e is drawn with `seed + e`.
    """

    def __init__(self, rows: int, batch_size: int, drop_last: bool = False, seed: int = 0) -> None:
        if batch_size < 1:
            raise SettingsError(f"batch_size {batch_size}: at least 1 is needed")
        self.rows = rows
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.seed = seed
        self.epoch = 0
        self.step = 0
        self._planned: tuple[int, Plan] | None = None

    @abstractmethod
    def plan(self, epoch: int) -> Plan:
        """Return the batches of an epoch; equal on every process."""

    def generator(self, epoch: int) -> torch.Generator:
        """Return the source of chance of an epoch."""
        return torch.Generator().manual_seed(self.seed + epoch)

    def signature(self) -> dict[str, Any]:
        """Return what a state must have been saved with to go on here."""
        return {
            "sampler": type(self).__name__,
            "rows": self.rows,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "seed": self.seed,
        }

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; the current one goes on where it is."""
        if epoch != self.epoch:
            self.epoch, self.step = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position: `step` batches of `epoch` have been handed out."""
        return {"epoch": self.epoch, "step": self.step, "signature": self.signature()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            InputError: it was taken with other data or other settings.
        """
        for name, value in self.signature().items():
            was = state["signature"].get(name)
            if was != value:
                raise InputError(
                    f"sampler state was saved with {name} {was!r}, here it is {value!r}"
                )
        self.epoch, self.step = int(state["epoch"]), int(state["step"])

    def __len__(self) -> int:
        """Return the number of batches of the current epoch, those handed out included."""
        return len(self._current())

    def __iter__(self) -> Iterator[list[int]]:
        plan = self._current()
        while self.step < len(plan):
            self.step += 1
            yield plan[self.step - 1]
        self.set_epoch(self.epoch + 1)

    def _current(self) -> Plan:
        if self._planned is None or self._planned[0] != self.epoch:
            self._planned = (self.epoch, self.plan(self.epoch))
        return self._planned[1]


class RankBatches:
    """One rank's part of each batch of a sampler; all ranks together have the whole batch.

    Parts differ by one row at most. They are contiguous, in the order of ranks; or with `sizes` of
    about equal cost, lest the ranks wait for each other. The state is the sampler's, so a run may
    resume on another number of ranks.

    Args:
        sampler: the batches of the whole run.
        rank: this process.
        world: number of processes.
        sizes: what each of some rows costs.
    """

    def __init__(
        self,
        sampler: BatchSampler,
        rank: int,
        world: int,
        sizes: Callable[[Sequence[int]], Sequence[float]] | None = None,
    ) -> None:
        if not 0 <= rank < world:
            raise SettingsError(f"rank {rank} of {world}: 0 to {world - 1} are allowed")
        self.sampler, self.rank, self.world, self.sizes = sampler, rank, world, sizes

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.sampler:
            if self.sizes is not None and self.world > 1:
                dealt = deal_evenly(self.sizes(batch), self.world)[self.rank]
                yield [batch[place] for place in dealt]
            else:
                start = len(batch) * self.rank // self.world
                yield batch[start : len(batch) * (self.rank + 1) // self.world]

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; the current one goes on where it is."""
        self.sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler's position."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, on any number of ranks."""
        self.sampler.load_state_dict(state)


def deal_evenly(sizes: Sequence[float], parts: int) -> list[list[int]]:
    """Deal items to parts as many and as large as each other; equal input, equal parts.

    The largest first, each to the part that holds least of those with room (longest processing
    time first, Graham 1969).

    Args:
        sizes: the size of each item.
        parts: number of parts, whose counts of items differ by one at most.

    Returns:
        The places of each part's items, ascending.
    """
    count = len(sizes)
    room = [count * (part + 1) // parts - count * part // parts for part in range(parts)]
    held = [0.0] * parts
    dealt: list[list[int]] = [[] for _ in range(parts)]
    for place in sorted(range(count), key=lambda place: -sizes[place]):
        part = min((each for each in range(parts) if room[each]), key=held.__getitem__)
        dealt[part].append(place)
        held[part] += sizes[place]
        room[part] -= 1
    return [sorted(places) for places in dealt]
