"""Rows of Parquet files too many for memory: one window after another, read ahead by Ray Data."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from raybert.artifacts import fingerprint, hash_bytes
from raybert.corpus.cluster import connect, quiet_data
from raybert.corpus.sources import find_files, open_parquet, readable_parquet
from raybert.errors import InputError

Piece = tuple[str, int, int]
"""A file, and its rows from the second number up to the third."""

_FAULT = "raybert fault"
"""The column in which a task tells what it could not read: raised there, it would lose its type."""


@dataclass(frozen=True)
class RowStream:
    """Rows in the order of files, `window` of them at a time; the last window may be smaller.

    Args:
        files: paths, folders or globs of Parquet files.
        window: rows held at a time.

    Raises:
        InputError: there is no such file, or one is not Parquet.
    """

    files: Sequence[str]
    window: int
    counts: dict[str, int] = field(init=False)
    fingerprint: str = field(init=False)
    """Hash of the files' footers: rows, bytes and statistics of every column; no row is read."""

    def __post_init__(self) -> None:
        found = find_files(self.files)
        for uri, kind, _ in found:
            if kind != "parquet":
                raise InputError(f"{uri}: Parquet is expected where rows are read in windows")
        footers = {uri: open_parquet(uri).metadata for uri, _, _ in found}
        counts = {uri: footer.num_rows for uri, footer in footers.items()}
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "fingerprint", fingerprint([*map(_hash, footers.values())]))

    @cached_property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(self.counts.values())

    def windows(self, first: int = 0) -> Generator[pa.Table]:
        """Yield the windows from number `first` on; those before it are not read.

        Tasks read ahead as far as the object store has room; closing the generator ends them.

        Raises:
            InputError: a file turns out damaged.
        """
        plan = self._plan()[first:]
        if not plan:
            return
        connect(dashboard=True)
        quiet_data().execution_options.preserve_order = True
        # Reading asks for no CPU: the workers that wait for the rows may hold all there are.
        read = ray.data.from_items(
            [{"pieces": json.dumps(pieces)} for pieces in plan], override_num_blocks=len(plan)
        ).map_batches(_read, batch_size=1, batch_format="pyarrow", num_cpus=0)
        blocks = iter(read.iter_batches(batch_size=None, batch_format="pyarrow"))
        for pieces in plan:
            wanted, held = sum(stop - start for _, start, stop in pieces), 0
            parts: list[pa.Table] = []
            while held < wanted:
                parts.append(_unless_fault(next(blocks)))
                held += len(parts[-1])
            yield pa.concat_tables(parts, promote_options="default")

    def _plan(self) -> list[list[Piece]]:
        """Return the pieces of each window."""
        plan: list[list[Piece]] = []
        room = 0
        for uri, count in self.counts.items():
            start = 0
            while start < count:
                if not room:
                    plan.append([])
                    room = self.window
                stop = min(count, start + room)
                plan[-1].append((uri, start, stop))
                room -= stop - start
                start = stop
        return plan


def _hash(footer: pq.FileMetaData) -> str:
    sink = pa.BufferOutputStream()
    footer.write_metadata_file(sink)
    return hash_bytes(memoryview(sink.getvalue()))


def _read(batch: pa.Table) -> pa.Table:
    """Read a window."""
    pieces = json.loads(batch["pieces"][0].as_py())
    try:
        return pa.concat_tables([_rows(*piece) for piece in pieces], promote_options="default")
    except InputError as fault:
        return pa.table({_FAULT: [str(fault)]})


def _unless_fault(block: pa.Table) -> pa.Table:
    if _FAULT in block.column_names:
        raise InputError(block[_FAULT][0].as_py())
    return block


def _rows(uri: str, start: int, stop: int) -> pa.Table:
    """Read some rows of a file: the row groups they lie in, cut."""
    groups: list[int] = []
    begins, first = 0, 0
    with open_parquet(uri) as file, readable_parquet(uri):
        for number in range(file.num_row_groups):
            ends = begins + file.metadata.row_group(number).num_rows
            if begins < stop and ends > start:
                first = first if groups else begins
                groups.append(number)
            begins = ends
        return file.read_row_groups(groups).slice(start - first, stop - start)
