"""Writing the documents of an index: payload rows brought into the order of the vectors.

Documents come in any order and any number of tables; each row is spilled to a file of its shard
and put in order there, so memory holds one shard's documents and not the corpus.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raybert.artifacts import Folder, Shard, hash_bytes
from raybert.errors import InputError
from raybert.index.documents import document_bytes
from raybert.records import ID, VECTOR

_ROW = "__row"
_ROWS_AT_ONCE = 200_000


def write_documents(
    folder: Folder,
    names: Sequence[str],
    ids: Sequence[pa.Array],
    documents: Iterable[pa.Table] | None,
) -> list[Shard]:
    """Write one document file a shard.

    Args:
        folder: the index.
        names: file name of each shard's documents.
        ids: the ids of each shard in row order (large_string).
        documents: tables with a column `id` and payload columns; None writes ids alone.

    Raises:
        InputError: an id of the index has no document, or a table has no column `id`.
    """
    if documents is None:
        tables: Iterable[pa.Table] = (pa.table({ID: shard}) for shard in ids)
        return [_write(folder, name, table) for name, table in zip(names, tables, strict=True)]
    with tempfile.TemporaryDirectory(prefix="raybert-documents-") as spill:
        spills = [_Spill(Path(spill) / f"{at:05d}.arrow", shard) for at, shard in enumerate(ids)]
        for table in _coalesced(_payload(table) for table in documents):
            for part in spills:
                part.add(table)
        return [
            _write(folder, name, part.table()) for name, part in zip(names, spills, strict=True)
        ]


class _Spill:
    """The documents of one shard, in the order they come."""

    def __init__(self, path: Path, ids: pa.Array) -> None:
        self._path = path
        self._ids = ids
        self._missing: npt.NDArray[np.bool_] = np.ones(len(ids), dtype=np.bool_)
        self._writer: pa.RecordBatchFileWriter | None = None
        self._schema = pa.schema([])

    def add(self, table: pa.Table) -> None:
        """Keep the rows that belong here; of rows with one id, the first."""
        rows = pc.index_in(table[ID], value_set=self._ids)
        positions = rows.fill_null(-1).to_numpy()
        known = np.flatnonzero(positions >= 0)
        _, first = np.unique(positions[known], return_index=True)
        kept = known[np.sort(first)]
        kept = kept[self._missing[positions[kept]]]
        if not len(kept):
            return
        self._missing[positions[kept]] = False
        found = table.take(kept).append_column(_ROW, pa.array(positions[kept], pa.int64()))
        if self._writer is None:
            self._schema = found.schema
            self._writer = pa.ipc.new_file(str(self._path), found.schema)
        self._writer.write_table(_fitted(found, self._schema))

    def table(self) -> pa.Table:
        """Return all documents in row order."""
        if self._missing.any():
            first = self._ids[int(np.flatnonzero(self._missing)[0])].as_py()
            raise InputError(
                f"{int(self._missing.sum())} row(s) of the embeddings have no document; "
                f"the first is of id {first!r}"
            )
        assert self._writer is not None
        self._writer.close()
        with pa.memory_map(str(self._path)) as source:
            table = pa.ipc.open_file(source).read_all()
            order = pc.sort_indices(table[_ROW])
            return table.take(order).drop_columns([_ROW])


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring a table to the columns and types of the tables before it; a missing column is null.

    Raises:
        InputError: a column changes its type from one file to the next.
    """
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        try:
            columns.append(table[field.name].cast(field.type))
        except pa.ArrowInvalid:
            raise InputError(
                f"documents: column {field.name!r} holds {table[field.name].type} in one file "
                f"and {field.type} in another"
            ) from None
    return pa.table(columns, schema=schema)


def _payload(table: pa.Table) -> pa.Table:
    """Put the id first, leave vectors out, and give text the wide string type."""
    if ID not in table.column_names:
        raise InputError(
            f"documents need a column {ID!r}; there are {', '.join(table.column_names)}"
        )
    names = [ID, *(name for name in table.column_names if name not in (ID, VECTOR))]
    chosen = table.select(names)
    fields = [
        field.with_type(pa.large_string())
        if pa.types.is_string(field.type) or pa.types.is_null(field.type)
        else field
        for field in chosen.schema
    ]
    return chosen.cast(pa.schema(fields))


def _coalesced(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows >= _ROWS_AT_ONCE:
            yield pa.concat_tables(held, promote_options="permissive")
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held, promote_options="permissive")


def _write(folder: Folder, name: str, table: pa.Table) -> Shard:
    data = document_bytes(table)
    folder.write_bytes(name, data)
    return Shard(file=name, rows=table.num_rows, bytes=len(data), checksum=hash_bytes(data))
