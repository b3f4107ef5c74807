"""Sealed segments of a live index: ordinary artifacts, and what of them is dead since.

A segment is a folder with `rows`, an embeddings artifact with payload columns that later segments
are built from, and `index`, built from it by the kind the live index was made with.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from raybert.artifacts import (
    Folder,
    Manifest,
    Shard,
    read_manifest,
    read_tables,
    write_manifest,
    write_table,
)
from raybert.index.build import build_index
from raybert.index.filters import Filter
from raybert.index.fresh import NEVER
from raybert.index.kinds import pick_kind
from raybert.index.live_rows import log_columns, row_form, sealed_columns
from raybert.index.live_state import LiveState
from raybert.index.open import open_index
from raybert.index.recall import PROBES
from raybert.index.search import Index
from raybert.records import ID, Hit

SEGMENTS = "segments"
ROWS_A_SHARD = 8192
_ROWS, _INDEX = "rows", "index"


class Segment:
    """One sealed segment.

    Args:
        name: its folder's name.
        folder: its folder.
        index: its index, opened.
    """

    def __init__(self, name: str, folder: Folder, index: Index) -> None:
        self.name = name
        self.folder = folder
        self.index = index
        self._died: dict[str, int] = {}

    @classmethod
    def open(cls, root: Folder, name: str) -> Segment:
        """Open a segment, every file of its index checked.

        Raises:
            ArtifactError: it is missing, unfinished or damaged; the file is named.
        """
        folder = Folder(root.path(f"{SEGMENTS}/{name}"))
        return cls(name, folder, open_index(folder.path(_INDEX)))

    def kill(self, sequence: int, ids: Iterable[str]) -> None:
        """Mark the rows of `ids`, where they stand here, as dead from `sequence` on."""
        for identifier in ids:
            if identifier not in self._died and identifier in self.index.documents:
                self._died[identifier] = sequence

    def has(self, identifier: str, sequence: int) -> bool:
        """Say whether an id lives here at `sequence`."""
        alive = self._died.get(identifier, NEVER) > sequence
        return alive and identifier in self.index.documents

    def dead(self, sequence: int) -> set[str]:
        """Return the ids that are dead at `sequence`."""
        died = self._died.copy()  # the writer may add to it meanwhile
        return {identifier for identifier, at in died.items() if at <= sequence}

    def search(
        self, queries: Any, k: int, sequence: int, filter: Filter | None = None
    ) -> list[list[Hit]]:
        """Return the `k` best rows that live at `sequence` and fulfil a filter, a prepared query.

        More hits than asked for are fetched to make up for the dead among them; again more where
        these were not enough.
        """
        rows = len(self.index)
        died = self._died
        if len(died) >= rows and len(self.dead(sequence)) >= rows:
            return [[] for _ in range(queries.shape[0])]
        fetch = min(rows, k + min(len(died), k))
        while True:
            found = self.index.nearest(queries, fetch, filter)
            living = [[hit for hit in hits if died.get(hit.id, NEVER) > sequence] for hits in found]
            if fetch == rows or all(
                len(some) >= k or len(hits) < fetch
                for some, hits in zip(living, found, strict=True)
            ):
                return [some[:k] for some in living]
            fetch = min(rows, 4 * fetch)

    def rows(self, sequence: int) -> Iterator[pa.Table]:
        """Yield the rows that live at `sequence`: id, vector, payload; a shard at a time.

        Raises:
            ArtifactError: a shard is damaged; it is named.
        """
        dead = self.dead(sequence)
        folder = Folder(self.folder.path(_ROWS))
        for table in read_tables(folder, read_manifest(folder, kind="embeddings")):
            alive = [identifier not in dead for identifier in table[ID].to_pylist()]
            yield log_columns(table.filter(pa.array(alive, pa.bool_())))


def write_segment(
    root: Folder,
    name: str,
    tables: Iterable[pa.Table],
    state: LiveState,
) -> Segment | None:
    """Seal rows as a new segment: the rows, then the index over them, each with its manifest last.

    Args:
        root: the live index.
        name: name of the segment's folder.
        tables: rows with id, vector and payload columns, as the log has them.
        state: what the index is.

    Returns:
        The segment, opened; None where there was no row.
    """
    folder = Folder(root.path(f"{SEGMENTS}/{name}"))
    rows = Folder(folder.path(_ROWS))
    shards = tuple(
        write_table(rows, f"shards/{at:05d}.parquet", sealed_columns(table))
        for at, table in enumerate(_blocks(tables))
    )
    if not shards:
        return None
    _finish_rows(rows, shards, state)
    held = row_form(state).columns
    payload = (
        table.drop_columns([name for name in table.column_names if name in held])
        for table in read_tables(rows, read_manifest(rows))
    )
    target, measured = folder.path(_INDEX), pick_kind(state.kind).efforts
    build_index(
        rows.uri,
        target,
        kind=state.kind,
        metric=state.metric,
        documents=payload,
        model_fingerprint=state.model.fingerprint,
        probes=PROBES if measured else 0,
    )
    return Segment(name, folder, open_index(target, verify=False))


def _finish_rows(rows: Folder, shards: tuple[Shard, ...], state: LiveState) -> None:
    manifest = Manifest(
        kind="embeddings",
        settings=state.encoding,
        inputs=(state.model,),
        shards=shards,
        details={"similarity_fn_name": state.metric, "dimension": state.dimension},
    )
    write_manifest(rows, manifest)


def _blocks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables and cut large ones: one table a shard, columns as they first came."""
    held: list[pa.Table] = []
    for table in itertools.chain.from_iterable(_cut(each) for each in tables):
        if held and sum(each.num_rows for each in held) + table.num_rows > ROWS_A_SHARD:
            yield pa.concat_tables(held, promote_options="permissive")
            held = []
        if table.num_rows:
            held.append(table)
    if held:
        yield pa.concat_tables(held, promote_options="permissive")


def _cut(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, ROWS_A_SHARD):
        yield table.slice(start, ROWS_A_SHARD)


def merged_names(segments: Iterable[Segment], rows: int, sequence: int) -> set[str]:
    """Return the segments to merge with `rows` fresh ones, newest first looked at.

    A segment is taken when it is at most three times as large as what is merged already, or when
    a third of it is dead: so a row is copied a logarithmic number of times and the number of
    segments stays logarithmic too.
    """
    names: set[str] = set()
    for segment in reversed(list(segments)):
        size = len(segment.index)
        dead = len(segment.dead(sequence))
        if size - dead <= 3 * rows or 3 * dead >= size:
            names.add(segment.name)
            rows += size - dead
    return names
