"""Training rows: text columns in order and a label column, from files or a `datasets` folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import torch
from torch import Tensor

from raybert.artifacts import hash_bytes
from raybert.corpus.sources import find_files, open_file, open_parquet
from raybert.errors import InputError
from raybert.losses import LabelKind, Loss, check_columns, check_labels, pad_labels
from raybert.losses.choose import LABEL_COLUMNS
from raybert.training.columns import is_list, is_text, shaped
from raybert.training.data_settings import DataSettings, MixtureSettings
from raybert.training.joined_texts import JoinedTexts

DATASETS_FILE = "dataset_info.json"
"""The file by which a folder of the `datasets` library is known."""


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
        return sum(len(part.table) for part in self.parts)

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
        tables = [part.table for part in self.parts] + [
            pa.table({"id": joined.ids, "text": joined.texts})
            for part in self.parts
            for joined in part.joined.values()
        ]
        sink = pa.BufferOutputStream()
        for table in tables:
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table.combine_chunks())
        return hash_bytes(memoryview(sink.getvalue()))


def open_data(settings: DataSettings, where: str = "data") -> TrainingData:
    """Read the rows that settings name.

    Raises:
        InputError: no such file or column, unreadable, empty, or without text.
    """
    told = f"{where} {', '.join(settings.files)}"
    joined = {
        column: JoinedTexts(table.column(texts.id_column), table.column(texts.text_column), name)
        for column, texts in settings.texts.items()
        for name in [f"{where}.texts.{column} {', '.join(texts.files)}"]
        for table in [_with_columns(texts.files, name, (texts.id_column, texts.text_column))]
    }
    further = settings.also if isinstance(settings, MixtureSettings) else {}
    also = [open_data(part, f"{where}.also.{name}") for name, part in further.items()]
    table = shaped(read_rows(settings.files, told), settings, told)
    data = TrainingData(table, told, joined, also, settings.images)
    for setting in ("prompts", "routes", "texts", "images"):
        for column in getattr(settings, setting):
            if column not in data.columns:
                raise InputError(
                    f"{told}: no column {column!r} for data.{setting}; there are "
                    f"{', '.join(data.columns)}"
                )
    return data


def read_rows(files: Sequence[str], where: str) -> pa.Table:
    """Read files, folders and globs as one table.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    try:
        return pa.concat_tables(
            [part for name in files for part in _tables(name)], promote_options="default"
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"{where}: cannot be read: {str(error).splitlines()[0]}") from None


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


def _tables(name: str) -> list[pa.Table]:
    """Return the tables of a path, folder or glob."""
    if (Path(name) / DATASETS_FILE).is_file():
        from datasets import load_from_disk

        found: pa.Table = load_from_disk(name).with_format("arrow")[:]
        return [found]
    return [_table(uri, kind) for uri, kind, _ in find_files([name])]


def _table(uri: str, kind: str) -> pa.Table:
    """Return one file's rows."""
    if kind == "parquet":
        return open_parquet(uri).read()
    if kind == "text":
        raise InputError(f"{uri}: Parquet, JSONL, CSV or TSV is expected, not plain text")
    with open_file(uri) as file:
        if kind == "jsonl":
            return pa_json.read_json(file)
        dialect = pa_csv.ParseOptions(
            delimiter="\t" if kind == "tsv" else ",", newlines_in_values=True
        )
        return pa_csv.read_csv(file, parse_options=dialect)


def _with_columns(files: Sequence[str], where: str, needed: Sequence[str]) -> pa.Table:
    """Read a table that must have some columns."""
    table = read_rows(files, where)
    for name in needed:
        if name not in table.column_names:
            raise InputError(
                f"{where}: no column {name!r}; the columns are {', '.join(table.column_names)}"
            )
    return table


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
