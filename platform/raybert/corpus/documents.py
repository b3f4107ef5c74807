"""Whole rows of a corpus: id, text and what else stands beside them, to be shown with a hit."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa

from raybert.corpus.read import Columns, read_cells, read_rows
from raybert.corpus.sources import Piece, open_file, open_parquet
from raybert.records import ID, VECTOR


def read_documents(pieces: Sequence[Piece], columns: Columns) -> Iterator[pa.Table]:
    """Yield the good rows of every piece as a table: `id`, the text column, then the others.

    Images are not kept; their captions are, as any other column.

    Ids are those that encoding gives the rows. The other columns of a JSONL file are those of its
    first row; values of several types in one column are written as JSON.

    Raises:
        InputError: a file is unreadable, or a column is missing.
    """
    others = {piece.uri: _other_columns(piece, columns) for piece in pieces}
    for piece in pieces:
        rows = [row for row in read_rows(piece, columns) if row.reason is None]
        table = pa.table({ID: pa.array([row.id for row in rows], pa.large_string())})
        if not columns.images:
            texts = pa.array([row.text for row in rows], pa.large_string())
            table = table.append_column(columns.text, texts)
        numbers = pa.array([row.number for row in rows], pa.int64())
        beside = _parquet if piece.format == "parquet" else _cells
        yield _beside(table, beside(piece, columns, others[piece.uri]).take(numbers))


def _other_columns(piece: Piece, columns: Columns) -> list[str]:
    left_out = {ID, VECTOR, columns.id, columns.text}
    return [name for name in _names(piece) if name and name not in left_out]


def _names(piece: Piece) -> list[str]:
    if piece.format == "parquet":
        with open_parquet(piece.uri) as file:
            return list(file.schema_arrow.names)
    if piece.format == "text":
        return []
    with open_file(piece.uri) as file:
        lines = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        if piece.format == "jsonl":
            return _keys(next((line for line in lines if line.strip()), ""))
        if piece.format == "csv":
            return next(csv.reader(lines), [])
        return next(lines, "").rstrip("\r\n").split("\t")


def _keys(line: str) -> list[str]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return []
    return list(record) if isinstance(record, dict) else []


def _parquet(piece: Piece, _: Columns, names: list[str]) -> pa.Table:
    with open_parquet(piece.uri) as file:
        return file.read_row_group(piece.start, columns=names)


def _cells(piece: Piece, columns: Columns, names: list[str]) -> pa.Table:
    return pa.table({name: _array(list(read_cells(piece, columns, name))) for name in names})


def _array(cells: list[Any]) -> pa.Array:
    """Return cells as one column; text that is not UTF-8 loses what cannot be shown."""
    shown = [
        cell.encode("utf-8", "replace").decode() if isinstance(cell, str) else cell
        for cell in cells
    ]
    try:
        return pa.array(shown)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if cell is None else orjson.dumps(cell).decode() for cell in shown])


def _beside(table: pa.Table, others: pa.Table) -> pa.Table:
    for name in others.column_names:
        table = table.append_column(others.schema.field(name), others[name])
    return table
