"""What a training says of itself: means and rates since the last entry of its log."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from raybert.records import BatchUsage
from raybert.tracking import JobProgress
from raybert.training.collate import Batch
from raybert.training.mini_batches import MiniBatches


@dataclass(slots=True)
class Meter:
    """Adds up the steps of one rank between two entries of the log."""

    steps: int = 0
    rows: int = 0
    usage: BatchUsage = field(default_factory=BatchUsage)
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    started: float = field(default_factory=time.monotonic)

    def count(self, batch: Batch, limits: MiniBatches) -> None:
        """Add a batch: its rows and tokens, and the tokens computed with padding."""
        self.rows += len(batch.rows)
        for column in batch.columns:
            lengths = column.lengths
            computed = sum(
                len(part) * max(lengths[row] for row in part) for part in limits.split(lengths)
            )
            self.usage += BatchUsage(sum(lengths), computed)

    def add(self, values: Mapping[str, float]) -> None:
        """Add a step's numbers."""
        self.steps += 1
        for name, value in values.items():
            self.sums[name] += value

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of a block out of the rates: measuring and saving are no training."""
        began = time.monotonic()
        yield
        self.started += time.monotonic() - began

    def entry(self, world: int) -> dict[str, float]:
        """Return the means and rates of all ranks, and begin anew."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        found = {name: value / self.steps for name, value in self.sums.items()}
        found["pairs_per_second"] = world * self.rows / seconds
        found["tokens_per_second"] = world * self.usage.tokens / seconds
        found["padding_share"] = self.usage.padding_share
        self.steps, self.rows, self.usage = 0, 0, BatchUsage()
        self.sums.clear()
        self.started = time.monotonic()
        return found


class TrainingProgress(JobProgress):
    """Shows how a training goes.

    Args:
        steps: of the optimizer, in all.
        show: whether anything is shown.
    """

    def __init__(self, steps: int, *, show: bool) -> None:
        super().__init__("train", steps, "steps", show=show)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Show an entry of the log; a measurement is none."""
        if "pairs_per_second" in values:
            self.reached(
                step,
                f"loss {values['loss']:.4f}  {values['pairs_per_second']:,.1f} pairs/s  "
                f"{values['tokens_per_second']:,.0f} tokens/s",
            )
