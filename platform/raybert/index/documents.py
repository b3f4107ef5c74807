"""Documents beside the vectors: ids and payload columns in Arrow files, memory-mapped.

A document file has the rows of its index shard in the same order, ascending by id, so a row is
found by id with a binary search and nothing is held in memory.
"""

from __future__ import annotations

import bisect
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybert.artifacts import Folder, Shard
from raybert.errors import InputError
from raybert.index.filters import Filter, Mask, passing
from raybert.records import ID

BATCH_ROWS = 8192
_FILTERS_KEPT = 16


class DocumentShard(Sequence[str]):
    """The documents of one index shard; as a sequence, its ids in ascending order."""

    def __init__(self, reader: pa.RecordBatchFileReader) -> None:
        self._batches = [reader.get_batch(at) for at in range(reader.num_record_batches)]
        self._length: int = sum(batch.num_rows for batch in self._batches)
        self._ids = [_text_views(batch.column(0)) for batch in self._batches]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: Any) -> Any:
        return self._id(range(self._length)[row])

    def ids(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Return the ids of many rows, in the order asked."""
        return [self._id(row) for row in rows.tolist()]

    def document(self, row: int) -> dict[str, Any]:
        """Return one row: its id and its payload."""
        batch, at = divmod(row, BATCH_ROWS)
        return dict(self._batches[batch].slice(at, 1).to_pylist()[0])

    def passing(self, condition: Filter) -> Mask:
        """Say which rows fulfil a filter; see `raybert.index.filters` for its faults."""
        masks = [passing(condition, batch) for batch in self._batches]
        return np.concatenate(masks) if masks else np.zeros(0, dtype=np.bool_)

    def row_of(self, identifier: str) -> int | None:
        """Return the row of an id, or None."""
        row = bisect.bisect_left(self, identifier)
        return row if row < len(self) and self[row] == identifier else None

    def _id(self, row: int) -> str:
        batch, at = divmod(row, BATCH_ROWS)
        starts, text = self._ids[batch]
        return str(text[starts[at] : starts[at + 1]], "utf-8")


class Documents:
    """The documents of an index.

    Args:
        shards: one a shard of the index, in its order.
    """

    def __init__(self, shards: Sequence[DocumentShard]) -> None:
        self.shards = tuple(shards)
        self._passing: dict[str, list[Mask | None]] = {}

    def __len__(self) -> int:
        return sum(len(shard) for shard in self.shards)

    @property
    def columns(self) -> list[str]:
        """Names of the columns: the id and the payload."""
        return list(self.shards[0].document(0)) if len(self) else [ID]

    def take(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the documents of `ids`, in that order: id and payload columns.

        Raises:
            InputError: an id is not in the index.
        """
        return [self._document(identifier) for identifier in ids]

    def passing(self, condition: Filter | None) -> list[Mask | None]:
        """Say for every shard which rows fulfil a filter, None meaning all; the last are kept.

        Raises:
            InputError: an unknown column or operator, a value of another type.
        """
        if condition is None:
            return [None] * len(self.shards)
        key = json.dumps(condition, sort_keys=True, default=repr)
        if key not in self._passing:
            masks: list[Mask | None] = [shard.passing(condition) for shard in self.shards]
            while len(self._passing) >= _FILTERS_KEPT:
                self._passing.pop(next(iter(self._passing)), None)
            self._passing[key] = masks
        return self._passing[key]

    def __contains__(self, identifier: object) -> bool:
        if not isinstance(identifier, str):
            return False
        return any(shard.row_of(identifier) is not None for shard in self.shards)

    def _document(self, identifier: str) -> dict[str, Any]:
        for shard in self.shards:
            row = shard.row_of(identifier)
            if row is not None:
                return shard.document(row)
        raise InputError(f"document {identifier!r} is not in the index")


def _text_views(column: pa.LargeStringArray) -> tuple[memoryview, memoryview]:
    """Return where each text of a column begins, and all of them as bytes: nothing is copied.

    Reading them so takes a tenth of the time that Arrow takes for one cell.
    """
    _, starts, text = column.buffers()
    counted = memoryview(starts).cast("q")[column.offset :]
    return counted, memoryview(b"" if text is None else text)


def document_bytes(table: pa.Table) -> memoryview:
    """Return a table as an Arrow file of batches of `BATCH_ROWS` rows (the last may be short)."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        for batch in table.combine_chunks().to_batches(max_chunksize=BATCH_ROWS):
            writer.write_batch(batch)
    return sink.getbuffer()


def open_documents(folder: Folder, shard: Shard) -> DocumentShard:
    """Open the documents of one shard: memory-mapped where the folder is local."""
    if folder.local is None:
        source = pa.BufferReader(folder.read_bytes(shard.file))
    else:
        source = pa.memory_map(str(folder.local / shard.file))
    return DocumentShard(pa.ipc.open_file(source))
