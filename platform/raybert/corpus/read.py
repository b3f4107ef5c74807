"""Reading rows: every format gives the same thing, a row with an id and a text, or a reason."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from raybert.artifacts import hash_bytes
from raybert.corpus.images import read_image_cell
from raybert.corpus.sources import Piece, open_file, open_parquet, readable_parquet
from raybert.errors import InputError

_BATCH_ROWS = 4096
_Cells = tuple[Any, Any, str | None]
"""id, text, and why the record could not be read (None if it could)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a corpus.

    Args:
        number: its position in its piece, from 0.
        id: its id; empty where it has none that can be used.
        text: its text; empty where there is none that can be used. Of an image, its hash.
        reason: why it is rejected, or None.
        image: the bytes of its image, where the column holds images.
    """

    number: int
    id: str
    text: str
    reason: str | None = None
    image: bytes = b""

    @property
    def content(self) -> str | bytes:
        """What is encoded."""
        return self.image or self.text


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold text and id; an empty id column numbers rows as `FILE:ROW`.

    Args:
        text: name of the column that is encoded.
        id: name of the column of ids.
        images: the first holds images in place of texts.
    """

    text: str = "text"
    id: str = "id"
    images: bool = False

    @classmethod
    def of(cls, text: str, identifier: str, image: str | None = None) -> Columns:
        """Return the columns of a job: the image column, where one is given, is encoded."""
        return cls(image or text, identifier, image is not None)


def read_rows(piece: Piece, columns: Columns) -> Iterator[Row]:
    """Yield every row of a piece in order, good or rejected.

    Raises:
        InputError: the file is unreadable, or a column is missing; the message lists the columns.
    """
    numbered = not columns.id or piece.format == "text"
    for number, (identifier, text, fault) in enumerate(_RECORDS[piece.format](piece, columns)):
        if numbered:
            where = piece.first_row + number if piece.first_row >= 0 else f"{piece.start}+{number}"
            identifier = f"{piece.name}:{where}"
        yield _checked(number, identifier, text, fault, piece.uri if columns.images else None)


def read_cells(piece: Piece, columns: Columns, name: str) -> Iterator[Any]:
    """Yield the cell of column `name` of every row of a piece, good or rejected, as it stands."""
    for _, cell, _ in _RECORDS[piece.format](piece, Columns(text=name, id=columns.id)):
        yield cell


def _checked(
    number: int, identifier: Any, text: Any, fault: str | None, images: str | None = None
) -> Row:
    """Return a row, or why it cannot be used; `images` is the file of a column of images."""
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    usable = identifier if isinstance(identifier, str) else ""
    if fault is not None:
        return Row(number, usable, "", fault)
    if not usable:
        missing = identifier is None or identifier == ""
        return Row(number, "", "", "null id" if missing else f"id is {_kind(identifier)}, not text")
    if images is not None:
        image, fault = read_image_cell(text, images)
        return Row(number, usable, "" if fault else hash_bytes(image), fault, image)
    if not isinstance(text, str):
        reason = "null text" if text is None else f"text is {_kind(text)}, not text"
        return Row(number, usable, "", reason)
    if not _is_unicode(text):
        return Row(number, usable, "", "text is not valid UTF-8")
    return Row(number, usable, text)


def _parquet_records(piece: Piece, columns: Columns) -> Iterator[_Cells]:
    with open_parquet(piece.uri) as file, readable_parquet(piece.uri):
        wanted = _wanted(piece, columns, file.schema_arrow.names)
        for batch in file.iter_batches(
            _BATCH_ROWS, row_groups=[piece.start], columns=sorted(set(wanted))
        ):
            texts = _values(batch.column(columns.text))
            ids = _values(batch.column(columns.id)) if columns.id else [None] * len(texts)
            yield from (
                (identifier, text, None) for identifier, text in zip(ids, texts, strict=True)
            )


def _values(column: pa.Array) -> list[Any]:
    """Return the cells of a column; a text that is not UTF-8 keeps its bytes as surrogates."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        cells = column.cast(
            pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()
        )
        return [
            None if cell is None else cell.decode("utf-8", "surrogateescape")
            for cell in cells.to_pylist()
        ]


def _jsonl_records(piece: Piece, columns: Columns) -> Iterator[_Cells]:
    first = True
    for line in _lines(piece):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield None, None, f"undecodable line: {error}"
            continue
        if not isinstance(record, dict):
            yield None, None, f"line holds {_kind(record)}, not an object"
            continue
        if first:
            _wanted(piece, columns, list(record))
            first = False
        yield record.get(columns.id), record.get(columns.text), None


def _csv_records(piece: Piece, columns: Columns) -> Iterator[_Cells]:
    csv.field_size_limit(sys.maxsize)
    with open_file(piece.uri) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.reader(text)
        yield from _delimited(piece, columns, next(rows, []), rows)


def _tsv_records(piece: Piece, columns: Columns) -> Iterator[_Cells]:
    lines = (line.decode("utf-8", "surrogateescape").rstrip("\r\n") for line in _lines(piece))
    with open_file(piece.uri) as file:
        header = file.readline().decode("utf-8-sig", "surrogateescape").rstrip("\r\n").split("\t")
    if piece.start == 0:
        next(lines, None)
    yield from _delimited(piece, columns, header, (line.split("\t") for line in lines if line))


def _delimited(
    piece: Piece, columns: Columns, header: list[str], rows: Iterator[list[str]]
) -> Iterator[_Cells]:
    _wanted(piece, columns, header)
    text_at = header.index(columns.text)
    id_at = header.index(columns.id) if columns.id else -1
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            yield None, None, f"undecodable line: {len(row)} fields, the header has {len(header)}"
            continue
        yield (row[id_at] if columns.id else None), row[text_at], None


def _text_records(piece: Piece, _: Columns) -> Iterator[_Cells]:
    for line in _lines(piece):
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if text:
            yield None, text, None


def _lines(piece: Piece) -> Iterator[bytes]:
    with open_file(piece.uri) as file:
        file.seek(piece.start)
        left = piece.stop - piece.start
        while left > 0:
            line = file.readline()
            if not line:
                return
            left -= len(line)
            yield line


def _wanted(piece: Piece, columns: Columns, names: list[str]) -> list[str]:
    wanted = [columns.text, columns.id] if columns.id else [columns.text]
    flags = ("--image-column" if columns.images else "--text-column", "--id-column")
    for name, flag in zip(wanted, flags, strict=False):
        if name not in names:
            raise InputError(
                f"{piece.uri}: no column {name!r} for {flag}; the columns are {', '.join(names)}"
            )
    return wanted


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)


_RECORDS = {
    "parquet": _parquet_records,
    "jsonl": _jsonl_records,
    "csv": _csv_records,
    "tsv": _tsv_records,
    "text": _text_records,
}
