"""How far an encoding has come: rows, rows a second, tokens a second, padding."""

from __future__ import annotations

from raybert.corpus.plan import Receipt
from raybert.corpus.write import Totals
from raybert.tracking import JobProgress


class EncodingProgress(JobProgress):
    """Shows how an encoding goes, and adds its figures up.

    Args:
        rows: good rows in the corpus.
        done: what earlier runs finished.
    """

    def __init__(self, rows: int, done: Totals) -> None:
        self.totals = Totals()
        self._resumed = done.encoded + done.reused
        super().__init__("encode", rows, "rows", self._resumed)

    @property
    def done(self) -> int:
        """Rows that are finished, in this run or before it."""
        return self._resumed + self.totals.encoded + self.totals.reused

    def metrics(self) -> dict[str, float]:
        """Return this run's figures so far: per second of wall time, and shares from 0 to 1."""
        totals = self.totals
        return {
            "rows": float(self.done),
            "rows_encoded": float(totals.encoded),
            "rows_reused": float(totals.reused),
            "rows_resumed": float(self._resumed),
            "rows_per_second": self.rate(self.done),
            "tokens_per_second": totals.usage.tokens / self.seconds,
            "padding_share": totals.usage.padding_share,
            "model_seconds": totals.seconds,
        }

    def add(self, receipt: Receipt) -> None:
        """Count one finished shard."""
        self.totals = self.totals.plus(receipt)
        figures = self.metrics()
        self.reached(
            self.done,
            f"{figures['rows_per_second']:,.0f} rows/s  "
            f"{figures['tokens_per_second']:,.0f} tokens/s  "
            f"padding {figures['padding_share']:.1%}",
        )
