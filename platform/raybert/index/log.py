"""A write-ahead log: what a live index was told since its last segment was sealed.

A record is a head (mark, operation, sequence, length, checksum) and an Arrow stream; it counts once
it is on disk whole. A process killed while it writes leaves a torn end, which is cut off; damage in
front of a whole record is no torn end and is refused.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import xxhash

from raybert.errors import ArtifactError

Operation = Literal["upsert", "delete"]

_MARK = b"RBL1"
_HEAD = struct.Struct("<4sBQIQ")
_OPERATIONS: tuple[Operation, ...] = ("upsert", "delete")


@dataclass(frozen=True, slots=True)
class Record:
    """One committed change.

    Args:
        sequence: its place in the order of all changes, from 1.
        operation: `upsert` of whole rows, or `delete` of ids.
        table: the rows; for `delete` a column `id` alone.
    """

    sequence: int
    operation: Operation
    table: pa.Table


@dataclass(frozen=True, slots=True)
class Tail:
    """What was read from a log.

    Args:
        records: whole records, in order.
        end: where the last whole record ends, bytes from the beginning.
        torn: bytes after it that are no whole record.
    """

    records: list[Record]
    end: int
    torn: int


def append_record(path: Path, record: Record, end: int) -> int:
    """Write a record at `end`, flush it to disk, and return where it ends.

    What lies behind `end`, a torn record, is cut off first; a record that cannot be written whole
    is taken back.

    Raises:
        ArtifactError: the disk is full, or the log may not be written to.
    """
    data = _encoded(record)
    try:
        with path.open("r+b", buffering=0) as file:
            file.truncate(end)
            try:
                _write_all(file.fileno(), data, end)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArtifactError(f"{path}: cannot be written: {reason}") from error
    return end + len(data)


def read_log(path: Path, start: int = 0) -> Tail:
    """Read the whole records from `start` on.

    Raises:
        ArtifactError: the log is missing, or damaged in front of a whole record; says where.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file") from None
    records: list[Record] = []
    at = 0
    while (found := _decoded(data, at)) is not None:
        record, at = found
        records.append(record)
    if any(_decoded(data, later) is not None for later in _marks(data, at + 1)):
        raise ArtifactError(f"{path}: damaged at byte {start + at}: a whole record follows")
    return Tail(records, start + at, len(data) - at)


def _encoded(record: Record) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, record.table.schema) as writer:
        writer.write_table(record.table)
    payload: bytes = sink.getvalue().to_pybytes()
    operation = _OPERATIONS.index(record.operation)
    checksum = _checksum(operation, record.sequence, payload)
    head = _HEAD.pack(_MARK, operation, record.sequence, len(payload), checksum)
    return head + payload


def _decoded(data: bytes, at: int) -> tuple[Record, int] | None:
    """Return the record at `at` and where it ends; None if it is not whole."""
    if at + _HEAD.size > len(data):
        return None
    mark, operation, sequence, length, checksum = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    if mark != _MARK or start + length > len(data) or operation >= len(_OPERATIONS):
        return None
    payload = data[start : start + length]
    if _checksum(operation, sequence, payload) != checksum:
        return None
    table = pa.ipc.open_stream(pa.py_buffer(payload)).read_all()
    return Record(sequence, _OPERATIONS[operation], table), start + length


def _checksum(operation: int, sequence: int, payload: bytes) -> int:
    hasher = xxhash.xxh3_64(struct.pack("<BQ", operation, sequence))
    hasher.update(payload)
    return hasher.intdigest()


def _marks(data: bytes, start: int) -> Iterator[int]:
    while (start := data.find(_MARK, start)) >= 0:
        yield start
        start += 1


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
