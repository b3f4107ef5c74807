"""Judgements: which document is relevant to which query, read from a file."""

from __future__ import annotations

import csv
import io
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from raybert.errors import InputError

_COLUMNS = (
    ("query_id", "doc_id", "relevance"),
    ("query-id", "corpus-id", "score"),
    ("query_id", "document_id", "relevance"),
)


def read_qrels(uri: str) -> dict[str, dict[str, float]]:
    """Read judgements: query id to document id to relevance.

    Reads TREC qrels (query, anything, document, relevance, without a header), the three-column
    table with a header that BEIR uses, and Parquet with the same columns.

    Raises:
        InputError: unreadable, a line that does not fit (it is named), or nothing in it.
    """
    try:
        with fsspec.open(uri, "rb") as file:
            data = file.read()
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{uri}: cannot be read: {' '.join(str(error).split())}") from None
    rows = _parquet(uri, data) if data[:4] == b"PAR1" else _lines(uri, data)
    qrels: dict[str, dict[str, float]] = {}
    for number, (query, document, relevance) in enumerate(rows, start=1):
        try:
            qrels.setdefault(query, {})[document] = float(relevance)
        except (TypeError, ValueError):
            raise InputError(f"{uri}, row {number}: relevance {relevance!r} is no number") from None
    if not qrels:
        raise InputError(f"{uri}: holds no judgement")
    return qrels


def _parquet(uri: str, data: bytes) -> list[tuple[str, str, Any]]:
    try:
        table = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid as error:
        raise InputError(f"{uri}: unreadable Parquet file: {error}") from None
    names = next((names for names in _COLUMNS if set(names) <= set(table.column_names)), None)
    if names is None:
        raise InputError(
            f"{uri}: needs columns {', '.join(_COLUMNS[0])}; "
            f"there are {', '.join(table.column_names)}"
        )
    queries, documents, relevances = (table[name].to_pylist() for name in names)
    return [
        (str(query), str(document), relevance)
        for query, document, relevance in zip(queries, documents, relevances, strict=True)
    ]


def _lines(uri: str, data: bytes) -> list[tuple[str, str, Any]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{uri}: is not UTF-8: {error.reason} at byte {error.start}") from None
    rows: list[tuple[str, str, Any]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = _fields(line)
        if not fields or (number == 1 and len(fields) == 3 and _is_header(fields)):
            continue
        if len(fields) not in (3, 4):
            raise InputError(f"{uri}, line {number}: 3 or 4 fields expected, not {len(fields)}")
        rows.append((fields[0], fields[-2], fields[-1]))
    return rows


def _fields(line: str) -> list[str]:
    if "\t" in line:
        return line.rstrip("\r\n").split("\t")
    return next(csv.reader([line])) if "," in line else line.split()


def _is_header(fields: list[str]) -> bool:
    return not fields[2].lstrip("-").replace(".", "", 1).isdigit()
