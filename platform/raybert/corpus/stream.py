"""Rows of Parquet files too many for memory: one window after another, read ahead by Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.exceptions import RayTaskError

from raybert.artifacts import fingerprint, hash_bytes
from raybert.corpus.cluster import connect
from raybert.corpus.sources import find_files, open_parquet, readable_parquet
from raybert.errors import InputError

Piece = tuple[str, int, int]
"""A file, and its rows from the second number up to the third."""

_AHEAD = 2
"""Windows that are read while one is in use."""


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

        Two more are read meanwhile, and none after the generator was closed.

        Raises:
            InputError: a file turns out damaged.
        """
        plan = self._plan()[first:]
        if not plan:
            return
        connect(train=True)
        # Reading asks for no CPU: the workers that wait for the rows may hold all there are.
        read = ray.remote(num_cpus=0)(_read).remote
        left = iter(plan)
        ahead = deque(map(read, islice(left, 1 + _AHEAD)))
        while ahead:
            yield _fetched(ahead.popleft())
            ahead.extend(map(read, islice(left, 1)))

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


def _read(pieces: Sequence[Piece]) -> pa.Table:
    """Read a window."""
    return pa.concat_tables([_rows(*piece) for piece in pieces], promote_options="default")


def _fetched(window: ray.ObjectRef[pa.Table]) -> pa.Table:
    try:
        return ray.get(window)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise


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
