"""The files of a live index as one process has read them: caught up before every search."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pyarrow as pa

from raybert.artifacts import Folder, read_table
from raybert.errors import ArtifactError
from raybert.index.columns import unpacked, widened
from raybert.index.fresh import Fresh
from raybert.index.live_rows import row_form
from raybert.index.live_state import STATE, LiveState, flush_folder, read_state
from raybert.index.log import Record, Tail, read_log
from raybert.index.segments import Segment
from raybert.index.snapshot import Snapshot, World
from raybert.records import ID

LOGS = "logs"
"""Folder of the logs."""
_Stamp = tuple[int, ...]
_ATTEMPTS = 10


class LiveFiles:
    """State, segments and logs, read as far as they go.

    Args:
        folder: the live index.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._root = Path(folder.absolute)
        self._lock = threading.RLock()
        self._snapshot: Snapshot | None = None
        self._seen: _Stamp = ()
        self._opened: dict[str, Segment] = {}
        self.end = 0
        """Where the last whole record of the log ends, when it was last read."""
        self.torn = 0
        """Bytes behind it."""

    @property
    def state(self) -> LiveState:
        """The state as last read."""
        return self.snapshot().world.state

    @property
    def log(self) -> Path:
        """The log that is written to."""
        return self._root / LOGS / self.state.logs[-1]

    def snapshot(self) -> Snapshot:
        """Return the index as the files have it now.

        Raises:
            ArtifactError: a file is missing or damaged; it is named.
        """
        known = self._snapshot
        if known is not None and self._seen == self._stamp(known.world.state):
            return known
        with self._lock:
            known = self._snapshot
            if known is not None and self._seen == self._stamp(known.world.state):
                return known
            return self._caught_up()

    def offer(self, segment: Segment) -> None:
        """Hand over a segment just built, which need not be read and checked again."""
        self._opened[segment.name] = segment

    def forget(self) -> None:
        """Read everything again at the next search."""
        with self._lock:
            self._snapshot, self._seen = None, ()

    def trim(self) -> int:
        """Cut what is no whole record off the log and return its bytes; the writer's lock is held.

        A record that another process has just finished is no longer torn.
        """
        with self._lock:
            self._seen = ()
            self._caught_up()
            if self.torn:
                os.truncate(self.log, self.end)
            return self.torn

    def _stamp(self, state: LiveState) -> _Stamp:
        """Return what changes whenever the state or the log does."""
        try:
            about = (self._root / STATE).stat()
            log = (self._root / LOGS / state.logs[-1]).stat()
        except FileNotFoundError:
            return ()
        return about.st_ino, about.st_mtime_ns, log.st_size, log.st_mtime_ns

    def _caught_up(self) -> Snapshot:
        """Read what is new; files may go while they are read, because the state changed again."""
        for _ in range(_ATTEMPTS):
            state = read_state(self._folder)
            stamp = self._stamp(state)
            try:
                self._snapshot = self._read(state)
            except ArtifactError:
                if read_state(self._folder).number == state.number:
                    raise
                continue
            self._seen = stamp
            return self._snapshot
        raise ArtifactError(f"{self._folder}: its state changes faster than it can be read")

    def _read(self, state: LiveState) -> Snapshot:
        old = self._snapshot
        if old is not None and old.world.state.number == state.number:
            tail = self._tail(state.logs[-1], self.end)
            schema = _schema(old.world.schema, tail.records)
            world = World(state, old.world.segments, old.world.fresh, schema)
            _apply(world, world.fresh[-1], tail.records)
            return self._standing(world, tail)
        return self._read_all(state, old)

    def _read_all(self, state: LiveState, old: Snapshot | None) -> Snapshot:
        """Read a new state; segments and fresh rows that it keeps are kept."""
        known = {} if old is None else {each.name: each for each in old.world.segments}
        segments = [
            known.get(name) or self._opened.pop(name, None) or Segment.open(self._folder, name)
            for name in state.segments
        ]
        new = [segment for segment in segments if segment.name not in known]
        self._bury(state, new, 0)
        if old is not None:  # what died in a log that came and went between two looks
            kept = [segment for segment in segments if segment.name in known]
            self._bury(state, kept, old.sequence + 1)
        tails = [self._tail(name, 0) for name in state.logs]
        schema = _schema(
            unpacked(state.columns), [record for tail in tails for record in tail.records]
        )
        world = World(state, tuple(segments), self._rows(state, old), schema)
        for rows, tail in zip(world.fresh, tails, strict=True):
            for record in tail.records:
                for segment in new:
                    segment.kill(record.sequence, record.table[ID].to_pylist())
            _apply(world, rows, [each for each in tail.records if each.sequence > rows.sequence])
        return self._standing(world, tails[-1])

    def _rows(self, state: LiveState, old: Snapshot | None) -> tuple[Fresh, ...]:
        """Return the rows of each log: those read already, and none yet of a new one."""
        form = row_form(state)
        known = {} if old is None else dict(zip(old.world.state.logs, old.world.fresh, strict=True))
        found = []
        for name in state.logs:
            rows = known.get(name)
            if rows is None:  # not `or`: of a log without rows the deaths were read all the same
                rows = Fresh(form.fresh(), state.sequence)
            rows.sequence = max(rows.sequence, state.sequence)
            found.append(rows)
        return tuple(found)

    def _bury(self, state: LiveState, segments: list[Segment], sequence: int) -> None:
        """Mark what was dead in segments when the state was written, as dead from `sequence` on."""
        if state.tombstones is None or not segments:
            return
        dead: dict[str, list[str]] = {}
        for row in read_table(self._folder, state.tombstones).to_pylist():
            dead.setdefault(row["segment"], []).append(row[ID])
        for segment in segments:
            segment.kill(sequence, dead.get(segment.name, ()))

    def _tail(self, name: str, start: int) -> Tail:
        return read_log(self._root / LOGS / name, start)

    def _standing(self, world: World, tail: Tail) -> Snapshot:
        self.end, self.torn = tail.end, tail.torn
        return Snapshot(world, max(rows.sequence for rows in world.fresh))


def begin_log(folder: Folder, name: str) -> None:
    """Make an empty log that lasts; it counts once the state names it."""
    folder.write_bytes(f"{LOGS}/{name}", b"")
    flush_folder(Path(folder.absolute) / LOGS)


def _apply(world: World, rows: Fresh, records: list[Record]) -> None:
    for record in records:
        world.kill(record.sequence, record.table[ID].to_pylist())
        if record.operation == "upsert":
            rows.add(record.sequence, record.table)
        rows.sequence = record.sequence


def _schema(known: pa.Schema, records: list[Record]) -> pa.Schema:
    for record in records:
        if record.operation == "upsert":
            known = widened(known, record.table)
    return known
