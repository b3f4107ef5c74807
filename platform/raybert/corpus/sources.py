"""Where a corpus lies: files found by path or glob, cut into pieces that are read on their own."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from raybert.errors import InputError

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".text": "text",
}
_PIECE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one file: a Parquet row group, or the bytes of whole lines.

    Args:
        uri: the file.
        format: one of the values of `FORMATS`.
        start: row group number, or offset of the first byte.
        stop: row group number plus one, or offset after the last byte.
        name: the file's path below the folder that all files share; names its rows.
        first_row: number of the first row in its file where that is known, else -1.
    """

    uri: str
    format: str
    start: int
    stop: int
    name: str
    first_row: int = -1


def find_files(patterns: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return (uri, format, bytes) of the files that paths, folders or globs name, sorted.

    Raises:
        InputError: a pattern matches nothing, or a file is of a format that cannot be read.
    """
    found: dict[str, int] = {}
    for pattern in patterns:
        matches = dict(_matches(pattern))
        if not matches:
            raise InputError(f"corpus {pattern!r}: no such file, and no file matches")
        found.update(matches)
    return [(uri, _format(uri), size) for uri, size in sorted(found.items())]


def cut_into_pieces(files: Sequence[tuple[str, str, int]]) -> list[Piece]:
    """Cut files into pieces that can be read side by side, in corpus order."""
    shared = posixpath.commonpath([posixpath.dirname(uri) for uri, _, _ in files] or [""])
    return [
        replace(piece, name=posixpath.relpath(uri, shared or "."))
        for uri, kind, size in files
        for piece in _pieces(uri, kind, size)
    ]


def open_file(uri: str) -> Any:
    """Open a local or remote file for reading bytes.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        return fsspec.open(uri, "rb").open()
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{uri}: cannot be opened: {_reason(error)}") from None


def open_parquet(uri: str) -> pq.ParquetFile:
    """Open a Parquet file.

    Raises:
        InputError: it is no Parquet file, or is damaged.
    """
    file = open_file(uri)
    with ExitStack() as unless_opened, readable_parquet(uri):
        unless_opened.callback(file.close)
        opened = pq.ParquetFile(file)
        unless_opened.pop_all()
    return opened


@contextmanager
def readable_parquet(uri: str) -> Iterator[None]:
    """Tell of a Parquet file that turns out damaged, inside a `with`.

    Raises:
        InputError: it is.
    """
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{uri}: unreadable Parquet file: {_reason(error)}") from None


def _matches(pattern: str) -> Iterator[tuple[str, int]]:
    try:
        files, path = fsspec.core.url_to_fs(pattern)
        if files.isdir(path):
            path = f"{path.rstrip('/')}/**"
        listing = files.glob(path, detail=True) if any(c in path for c in "*?[") else None
        entries = listing if listing is not None else {path: files.info(path)}
    except FileNotFoundError:
        return
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"corpus {pattern!r}: {_reason(error)}") from None
    remote = pattern.split("://")[0] if "://" in pattern else None
    for name, info in entries.items():
        if info["type"] == "file" and not name.rsplit("/", 1)[-1].startswith((".", "_")):
            yield (files.unstrip_protocol(name) if remote else name), int(info["size"])


def _format(uri: str) -> str:
    suffix = "." + uri.rsplit(".", 1)[-1].lower() if "." in uri.rsplit("/", 1)[-1] else ""
    if suffix not in FORMATS:
        allowed = ", ".join(sorted(FORMATS))
        raise InputError(
            f"{uri}: files ending in {suffix or 'nothing'!r} cannot be read: {allowed}"
        )
    return FORMATS[suffix]


def _pieces(uri: str, kind: str, size: int) -> Iterator[Piece]:
    if kind == "parquet":
        with open_parquet(uri) as file:
            row = 0
            for group in range(file.num_row_groups):
                yield Piece(uri, kind, group, group + 1, uri, row)
                row += file.metadata.row_group(group).num_rows
    elif kind == "csv" or size <= _PIECE_BYTES:
        # A quoted field may hold line breaks, so only a reading from the top knows the records.
        if size:
            yield Piece(uri, kind, 0, size, uri, 0)
    else:
        yield from _line_pieces(uri, kind, size)


def _line_pieces(uri: str, kind: str, size: int) -> Iterator[Piece]:
    start = 0
    with open_file(uri) as file:
        while start < size:
            file.seek(min(start + _PIECE_BYTES, size))
            file.readline()
            stop = min(file.tell(), size)
            yield Piece(uri, kind, start, stop, uri, 0 if start == 0 else -1)
            start = stop


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())
