"""Compaction: fresh rows and small or half-dead segments become one new segment.

The log is turned first, so that the rows to be sealed stand still; the segment is built while
others search and write; then one change of the state takes it in and lets the old files go.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from raybert.artifacts import Shard, write_table
from raybert.errors import OverloadedError
from raybert.index.columns import conformed, packed
from raybert.index.fresh import Fresh
from raybert.index.live_files import LOGS, begin_log
from raybert.index.live_state import LiveState, flush_folder, write_state
from raybert.index.locking import held
from raybert.index.segments import SEGMENTS, Segment, merged_names, write_segment
from raybert.index.snapshot import Snapshot
from raybert.records import ID

if TYPE_CHECKING:
    from raybert.index.live import LiveIndex

TOMBSTONES = "tombstones"


def compact(live: LiveIndex, *, everything: bool) -> bool:
    """Seal and merge; see `LiveIndex.compact`."""
    try:
        with held(Path(live.folder.absolute) / "compaction.lock", 0):
            return _compact(live, everything)
    except OverloadedError:
        return False


def _compact(live: LiveIndex, everything: bool) -> bool:
    turned = _turn_log(live, everything)
    if turned is None:
        return False
    before, merged = turned
    name = f"{before.world.state.number:08d}"
    live.folder.remove(f"{SEGMENTS}/{name}")
    state = before.world.state
    segment = write_segment(
        live.folder,
        name,
        _living(before, merged),
        state,
    )
    _switch(live, before, merged, segment)
    _remove_left_over(live, live.snapshot().world.state)
    return True


def _turn_log(live: LiveIndex, everything: bool) -> tuple[Snapshot, set[str]] | None:
    """Begin a new log, and return what stands before it and the segments to merge.

    None where there is nothing to do.
    """
    with live.writing() as before:
        segments = before.world.segments
        fresh = sum(int(part.alive(before.sequence).sum()) for part in before.world.fresh)
        merged = {each.name for each in segments} if everything else set()
        merged = merged or merged_names(segments, fresh, before.sequence)
        dead = any(each.dead(before.sequence) for each in segments if each.name in merged)
        if not any(len(part) for part in before.world.fresh) and len(merged) < 2 and not dead:
            return None
        state = before.world.state
        number = state.number + 1
        log = f"{number:08d}.wal"
        begin_log(live.folder, log)
        write_state(
            live.folder, state.model_copy(update={"number": number, "logs": (*state.logs, log)})
        )
        return before, merged


def _living(before: Snapshot, merged: set[str]) -> Iterator[pa.Table]:
    parts: list[Segment | Fresh] = [
        *(each for each in before.world.segments if each.name in merged),
        *(each for each in before.world.fresh if len(each)),
    ]
    for part in parts:
        for table in part.rows(before.sequence):
            yield conformed(table, before.world.schema)


def _switch(live: LiveIndex, before: Snapshot, merged: set[str], segment: Segment | None) -> None:
    """Take the new segment in: from here on the old files do not count."""
    if segment is not None:
        flush_folder(Path(live.folder.absolute) / SEGMENTS)
    with live.writing() as now:
        kept = [each for each in now.world.segments if each.name not in merged]
        state = now.world.state
        if segment is not None:
            live.files.offer(segment)
        names = [each.name for each in kept] + ([] if segment is None else [segment.name])
        update = {
            "number": state.number + 1,
            "sequence": before.sequence,
            "columns": packed(now.world.schema),
            "segments": tuple(names),
            "tombstones": _write_tombstones(live, state, kept, now.sequence),
            "logs": tuple(each for each in state.logs if each not in before.world.state.logs),
        }
        write_state(live.folder, state.model_copy(update=update))
        live.snapshot()


def _write_tombstones(
    live: LiveIndex, state: LiveState, kept: list[Segment], sequence: int
) -> Shard | None:
    """Write which ids are dead in the segments that stay: the logs that say so will go."""
    rows = [
        {"segment": each.name, ID: identifier}
        for each in kept
        for identifier in sorted(each.dead(sequence))
    ]
    if not rows:
        return None
    name = f"{TOMBSTONES}/{state.number + 1:08d}.parquet"
    return write_table(live.folder, name, pa.Table.from_pylist(rows))


def _remove_left_over(live: LiveIndex, state: LiveState) -> None:
    """Remove files that do not count; who has one open goes on reading it."""
    tombstones = () if state.tombstones is None else (Path(state.tombstones.file).name,)
    counted = {SEGMENTS: state.segments, LOGS: state.logs, TOMBSTONES: tombstones}
    for room, names in counted.items():
        for name in live.folder.names(room):
            if name not in names:
                live.folder.remove(f"{room}/{name}")
