"""The progress bar of an encoding: rows, rows a second, tokens a second, padding."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raybert.corpus.plan import Receipt
from raybert.corpus.write import Totals

_SAY_EVERY_S = 15.0


class EncodingProgress:
    """Shows how an encoding goes: a bar on a terminal, a line now and then in a log.

    Args:
        rows: good rows in the corpus.
        done: what earlier runs finished.
    """

    def __init__(self, rows: int, done: Totals) -> None:
        self.totals = Totals()
        self._rows = rows
        self._resumed = done.encoded + done.reused
        self._started = self._said = time.monotonic()
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("encode"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._console = console
        self._task = self._bar.add_task("encode", total=rows, completed=self._resumed, speed="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    @property
    def done(self) -> int:
        """Rows that are finished, in this run or before it."""
        return self._resumed + self.totals.encoded + self.totals.reused

    def metrics(self) -> dict[str, float]:
        """Return this run's figures so far: per second of wall time, and shares from 0 to 1."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        totals = self.totals
        return {
            "rows": float(self.done),
            "rows_encoded": float(totals.encoded),
            "rows_reused": float(totals.reused),
            "rows_resumed": float(self._resumed),
            "rows_per_second": (totals.encoded + totals.reused) / seconds,
            "tokens_per_second": totals.usage.tokens / seconds,
            "padding_share": totals.usage.padding_share,
            "model_seconds": totals.seconds,
        }

    def add(self, receipt: Receipt) -> None:
        """Count one finished shard."""
        self.totals = self.totals.plus(receipt)
        figures = self.metrics()
        speed = (
            f"{figures['rows_per_second']:,.0f} rows/s  "
            f"{figures['tokens_per_second']:,.0f} tokens/s  "
            f"padding {figures['padding_share']:.1%}"
        )
        self._bar.update(self._task, completed=self.done, speed=speed)
        now = time.monotonic()
        if self._bar.disable and (now - self._said > _SAY_EVERY_S or self.done == self._rows):
            self._said = now
            self._console.print(f"encode {self.done:,} of {self._rows:,} rows  {speed}")
