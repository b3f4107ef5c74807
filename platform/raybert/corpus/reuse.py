"""Rows encoded before: found again by their content, so that only changed rows are encoded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybert.artifacts import Folder, Shard, read_table
from raybert.records import CONTENT, ID


class EncodedRows:
    """Looks up rows of earlier shards by content hash.

    It keeps sixteen bytes a row (the first 64 bits of the hash, and where the row lies); the whole
    hash is compared when the row is taken.

    Args:
        folder: the artifact's folder.
        shards: the earlier shards.
    """

    def __init__(self, folder: Folder, shards: Sequence[Shard]) -> None:
        self._folder = folder
        self._shards = tuple(shards)
        keys, places = [], []
        for number, shard in enumerate(shards):
            content = read_table(folder, shard, [CONTENT])[CONTENT].to_pylist()
            keys.append(_keys(content))
            places.append(np.arange(len(content), dtype=np.int64) + (number << 32))
        self._keys = np.concatenate(keys) if keys else np.empty(0, np.uint64)
        self._places = np.concatenate(places) if places else np.empty(0, np.int64)
        order = np.argsort(self._keys, kind="stable")
        self._keys, self._places = self._keys[order], self._places[order]
        self._open: tuple[int, pa.Table] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, content: Sequence[str]) -> tuple[list[int], pa.Table | None]:
        """Return which of the rows were encoded before, and their vectors in the same order."""
        if not len(self) or not content:
            return [], None
        wanted = _keys(content)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        candidates = np.flatnonzero(self._keys[at] == wanted)
        candidates = candidates[np.argsort(self._places[at[candidates]], kind="stable")]
        rows: list[int] = []
        parts: list[pa.Table] = []
        for number, group in groupby(candidates.tolist(), lambda row: self._place(int(at[row]))[0]):
            table = self._shard(number)
            places = {row: self._place(int(at[row]))[1] for row in group}
            same = [row for row, place in places.items() if _is(table, place, content[row])]
            rows += same
            parts.append(table.take([places[row] for row in same]).drop_columns([ID, CONTENT]))
        return rows, pa.concat_tables(parts) if rows else None

    def _place(self, at: int) -> tuple[int, int]:
        return divmod(int(self._places[at]), 1 << 32)

    def _shard(self, number: int) -> pa.Table:
        if self._open is None or self._open[0] != number:
            self._open = (number, read_table(self._folder, self._shards[number]).combine_chunks())
        return self._open[1]


def _is(table: pa.Table, place: int, content: str) -> bool:
    return bool(table[CONTENT][place].as_py() == content)


def _keys(content: Sequence[str]) -> npt.NDArray[np.uint64]:
    return np.array([int(text[:16], 16) for text in content], np.uint64)
