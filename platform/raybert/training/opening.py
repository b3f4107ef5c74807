"""From settings to training rows: files, folders of `datasets`, or a stream of windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from raybert.corpus.sources import find_files, open_file, open_parquet
from raybert.errors import InputError
from raybert.training.columns import shaped
from raybert.training.data import TrainingData
from raybert.training.data_settings import DataSettings, MixtureSettings
from raybert.training.joined_texts import JoinedTexts
from raybert.training.streamed import StreamedData

DATASETS_FILE = "dataset_info.json"
"""The file by which a folder of the `datasets` library is known."""


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
    if settings.window is not None:
        data: TrainingData = StreamedData(settings, told, also)
    else:
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
