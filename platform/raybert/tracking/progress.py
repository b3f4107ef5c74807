"""How far a job has come: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SAY_EVERY_S = 15.0


class JobProgress:
    """Shows on stderr how a job's long part goes.

    Args:
        name: what is done, in a word.
        total: how many `unit` there are.
        unit: what is counted.
        done: how many earlier runs finished.
        show: whether anything is shown; of several processes one does.
    """

    def __init__(
        self, name: str, total: int, unit: str, done: int = 0, *, show: bool = True
    ) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._first, self._done, self._started = done, done, time.monotonic()
        self._said = self._started
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._bar = Progress(
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (show and self._console.is_terminal),
        )
        self._lines = show and not self._console.is_terminal
        self._task = self._bar.add_task(name, total=total, completed=done, figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return max(time.monotonic() - self._started, 1e-9)

    def rate(self, done: int) -> float:
        """Return how many a second were done by this run."""
        return (done - self._first) / self.seconds

    def advance(self, count: int) -> None:
        """Show that so many more are done, and how many a second."""
        done = self._done + count
        self.reached(done, f"{self.rate(done):,.0f} {self._unit}/s")

    def reached(self, done: int, figures: str) -> None:
        """Show how many are done, those of earlier runs included, and how fast it goes."""
        self._done = done
        self._bar.update(self._task, completed=done, figures=figures)
        now = time.monotonic()
        if self._lines and (now - self._said > _SAY_EVERY_S or done == self._total):
            self._said = now
            line = f"{self._name} {done:,} of {self._total:,} {self._unit}  {figures}"
            self._console.print(line, markup=False)
