"""Training rows: text columns in order and a label column, from files or a `datasets` folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from raybert.artifacts import fingerprint, hash_bytes
from raybert.errors import InputError
from raybert.losses import LabelKind, Loss, check_columns, check_labels, pad_labels
from raybert.losses.choose import LABEL_COLUMNS
from raybert.training.columns import is_list, is_text
from raybert.training.joined_texts import JoinedTexts


class TrainingData:
    """A table of text columns and, where there is one, a label column.

    A text column holds strings, or lists of strings (the documents of a listwise loss); one of
    pictures a file's bytes, or its path.

    Args:
        table: the columns, in the order the loss takes them.
        where: what to call the data in messages.
        joined: texts of the columns that hold ids.
        also: further datasets, each with columns of its own.
        images: columns that hold pictures.

    Raises:
        InputError: there are no rows or no text columns, a cell holds no text or picture, or an
            id has no text.
    """

    def __init__(
        self,
        table: pa.Table,
        where: str = "the data",
        joined: Mapping[str, JoinedTexts] | None = None,
        also: Sequence[TrainingData] = (),
        images: Sequence[str] = (),
    ) -> None:
        self.table = table.combine_chunks()
        self.where = where
        self.joined = dict(joined or {})
        self.parts = [self, *also]
        self.images = list(images)
        self.label = next((name for name in table.column_names if name in LABEL_COLUMNS), None)
        self.columns = [name for name in table.column_names if name not in LABEL_COLUMNS]
        if not len(table):
            raise InputError(f"{where}: there are no rows to train on")
        if not self.columns:
            raise InputError(f"{where}: there is no text column beside {self.label}")
        for name in self.columns:
            if name not in self.joined:
                _check_cells(self.table.column(name), name, where, image=name in self.images)
        self.places = {
            name: texts.places(self.table.column(name), name) for name, texts in self.joined.items()
        }

    def __len__(self) -> int:
        return len(self.table) + sum(len(part) for part in self.parts[1:])

    def close(self) -> None:
        """Let go what reading ahead holds."""
        for part in self.parts[1:]:
            part.close()

    def texts(self, column: str, rows: Sequence[int]) -> list[Any]:
        """Return a column's texts, or pictures, at `rows`."""
        numbers = pa.array(rows, pa.int64())
        if column in self.joined:
            return list(self.joined[column].take(self.places[column].take(numbers)))
        texts: list[Any] = self.table.column(column).take(numbers).to_pylist()
        return texts

    def labels(self, rows: Sequence[int], kind: LabelKind) -> Tensor | None:
        """Return the labels at `rows` as a loss takes them; None where there is no label."""
        if self.label is None:
            return None
        column = self.table.column(self.label).take(pa.array(rows, pa.int64()))
        if pa.types.is_fixed_size_list(column.type) and not column.null_count:
            values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
            return torch.from_numpy(values.copy()).reshape(len(column), -1).float()
        return label_tensor(column.to_pylist(), kind, self.where)

    def fit(self, loss: Loss) -> None:
        """Check that these rows can train a loss.

        Raises:
            InputError: wrong columns, or a label that the loss does not allow.
        """
        check_columns(loss, self.table.column_names, self.where)
        labels = self.labels(range(len(self.table)), loss.labels)
        if labels is not None:
            check_labels(loss, labels, self.where)
            if loss.labels is LabelKind.LIST:
                self._check_lists()

    def _check_lists(self) -> None:
        """Refuse rows with more or fewer labels than documents."""
        for row, (documents, labels) in enumerate(
            zip(
                *(self.table.column(name).to_pylist() for name in (self.columns[-1], self.label)),
                strict=True,
            )
        ):
            if not isinstance(documents, list) or len(documents) != len(labels):
                raise InputError(
                    f"{self.where}: row {row} needs as many labels ({len(labels)}) as documents in "
                    f"the list {self.columns[-1]!r}"
                )

    @property
    def fingerprint(self) -> str:
        """Content hash of columns and rows of all parts, and of the texts ids stand for."""
        tables = [self.table] + [
            pa.table({"id": joined.ids, "text": joined.texts}) for joined in self.joined.values()
        ]
        sink = pa.BufferOutputStream()
        for table in tables:
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table.combine_chunks())
        own = hash_bytes(memoryview(sink.getvalue()))
        return self.with_parts(own)

    def with_parts(self, own: str) -> str:
        """Join the content hash of these rows with those of further datasets."""
        rest = [part.fingerprint for part in self.parts[1:]]
        return fingerprint([own, *rest]) if rest else own


def label_tensor(values: Sequence[Any], kind: LabelKind, where: str = "the data") -> Tensor:
    """Return labels [N] or [N, C]; whole numbers stay whole, lists of a list loss are padded.

    Raises:
        InputError: a label is missing, no number, or rows have unequally many.
    """
    if None in values:
        raise InputError(f"{where}: the label in row {values.index(None)} is null")
    try:
        if kind is LabelKind.LIST:
            return pad_labels(values)
        labels = torch.tensor(values)
    except (ValueError, TypeError):
        raise InputError(
            f"{where}: labels must be numbers, or equally long lists of them; row 0 has "
            f"{str(values[0])[:40]!r}"
        ) from None
    return labels.float() if labels.is_floating_point() else labels.long()


def _check_cells(column: pa.ChunkedArray, name: str, where: str, *, image: bool) -> None:
    """Refuse a column that holds something else than texts, lists of them, or pictures."""
    kind = column.type
    if image:
        if not (is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise InputError(
                f"{where}: column {name!r} holds {kind}, neither files nor their paths"
            )
    elif not is_text(kind.value_type if is_list(kind) else kind):
        raise InputError(
            f"{where}: column {name!r} holds {kind}, not text; choose columns with data.columns"
        )
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InputError(f"{where}: column {name!r} is null in row {row}")
