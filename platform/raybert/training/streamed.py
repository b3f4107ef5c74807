"""Rows that are never all in memory: the window that a batch is of."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pyarrow as pa
from torch import Tensor

from raybert.artifacts import fingerprint
from raybert.corpus.stream import RowStream
from raybert.errors import SettingsError
from raybert.losses import LabelKind, Loss
from raybert.training.columns import shaped
from raybert.training.data import TrainingData
from raybert.training.data_settings import DataSettings


class StreamedData(TrainingData):
    """Training data of which one window is held; rows are numbered through all windows.

    What is wrong with a row is found when its window comes. Reading runs ahead of the training
    until `close`.

    Args:
        settings: the files, and how their columns are used.
        where: what to call the data in messages.
        also: further datasets.

    Raises:
        InputError: a file or column is not there, or the first window holds wrong cells.
        SettingsError: a setting needs all rows at once.
    """

    def __init__(
        self, settings: DataSettings, where: str, also: Sequence[TrainingData] = ()
    ) -> None:
        assert settings.window is not None
        for name in ("rows", "tension", "texts"):
            if getattr(settings, name):
                raise SettingsError(f"data.window: not together with data.{name}")
        self.stream = RowStream(settings.files, settings.window)
        self._settings, self._loss = settings, None
        self._windows, self._at = self.stream.windows(), 0
        super().__init__(self._shaped(), where, also=also, images=settings.images)

    def close(self) -> None:
        """Stop reading ahead; rows that are asked for later begin it again."""
        super().close()
        if self._windows is not None:
            self._windows.close()
        self._windows = None

    def __len__(self) -> int:
        return self.stream.rows + sum(len(part) for part in self.parts[1:])

    def texts(self, column: str, rows: Sequence[int]) -> list[Any]:
        """Return a column's texts at `rows`, all of one window."""
        return super().texts(column, self._own(rows))

    def labels(self, rows: Sequence[int], kind: LabelKind) -> Tensor | None:
        """Return the labels at `rows`, all of one window."""
        return super().labels(self._own(rows), kind)

    def fit(self, loss: Loss) -> None:
        """Check that the window that is held can train a loss, and later the others."""
        self._loss = loss
        TrainingData(self.table, self.where, images=self.images).fit(loss)

    @property
    def fingerprint(self) -> str:
        """Hash of the files' footers and the columns taken; no row is read for it."""
        return self.with_parts(fingerprint([self.stream.fingerprint, *self.columns]))

    def _own(self, rows: Sequence[int]) -> list[int]:
        """Hold the window of these rows; their numbers within it."""
        size = self.stream.window
        window = rows[0] // size if len(rows) else self._at
        assert all(row // size == window for row in rows), "a batch is of one window"
        if window != self._at:
            if self._windows is None or window != self._at + 1:
                self._windows = self.stream.windows(window)
            where = f"{self._settings.files[0]}, rows from {window * size:,}"
            held = TrainingData(self._shaped(), where, images=self.images)
            if self._loss is not None:
                held.fit(self._loss)
            self.table, self._at = held.table, window
        return [row - window * size for row in rows]

    def _shaped(self) -> pa.Table:
        """Return the next window's columns."""
        assert self._windows is not None
        table = next(self._windows, pa.table({}))
        return shaped(table, self._settings, ", ".join(self._settings.files))

    _loss: Loss | None
    _windows: Generator[pa.Table] | None
