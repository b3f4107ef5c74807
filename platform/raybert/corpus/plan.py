"""The plan of an encoding: which rows make which shard, and what is done already.

A shard is a fixed run of the corpus's good rows, so that it has the same rows, is batched the same
way and gets the same vectors, whoever encodes it and however often the job was killed before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from pydantic import Field

from raybert.artifacts import Folder, Shard, fingerprint, finished
from raybert.corpus.scan import CorpusScan, PieceScan, Rejection
from raybert.corpus.sources import Piece
from raybert.settings import Settings

PROGRESS = "progress"
SHARDS = "shards"


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows `start` to `stop` of a piece, of which those in `skip` are rejected."""

    piece: Piece
    start: int
    stop: int
    skip: frozenset[int]


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One shard: its number, its file and the rows it will hold."""

    number: int
    file: str
    slices: tuple[Slice, ...]


class Receipt(Settings):
    """Evidence that a shard is done: written after the shard itself, never before."""

    number: int
    """The shard's number."""
    shard: Shard
    """Its line for the manifest."""
    encoded: int
    """Rows that went through the model."""
    reused: int
    """Rows whose vector was taken over, their content being unchanged."""
    tokens: int
    """Tokens that carried text."""
    computed_tokens: int
    """Tokens computed, padding included."""
    seconds: float
    """Time in the model."""
    refused: tuple[str, ...] = ()
    """Ids of rows that the model gives no finite vector for."""
    details: dict[str, Any] = Field(default_factory=dict)
    """What a reader of the vectors must know: dimension, similarity, precision."""

    @property
    def rejected(self) -> list[Rejection]:
        """The rows that were left out because of the model."""
        where = f"shard {self.number}"
        reason = "the model gives no finite vector"
        return [Rejection("", -1, where, identifier, reason) for identifier in self.refused]


@dataclass(frozen=True, slots=True)
class Plan:
    """What must be done, and what is done.

    Args:
        id: hash of corpus, encoding context and shard size: the same plan gives the same rows.
        shards: every shard, in row order.
        receipts: what earlier runs of this plan finished, by shard number.
        earlier: shards of other plans in the same folder, whose rows may be taken over.
    """

    id: str
    shards: tuple[ShardPlan, ...]
    receipts: dict[int, Receipt]
    earlier: tuple[Shard, ...]

    @property
    def open_shards(self) -> list[ShardPlan]:
        """The shards still to be encoded."""
        return [shard for shard in self.shards if shard.number not in self.receipts]


def receipt_file(plan_id: str, number: int) -> str:
    """Return where the receipt of a shard lies."""
    return f"{PROGRESS}/{plan_id}/{number:05d}.json"


def plan_shards(folder: Folder, scan: CorpusScan, context: str, rows_per_shard: int) -> Plan:
    """Lay out the shards of a corpus and look up what earlier runs left in the folder.

    Args:
        folder: the artifact's folder, perhaps with work of earlier runs in it.
        scan: what was found in the corpus.
        context: fingerprint of all a vector depends on but its text.
        rows_per_shard: good rows in a shard.
    """
    plan_id = fingerprint([scan.fingerprint, context, rows_per_shard])[:16]
    manifest = finished(folder)
    others = [name for name in folder.names(PROGRESS) if name != plan_id]
    own = manifest is not None and manifest.details.get("plan") == plan_id
    earlier = list(manifest.shards) if manifest is not None and not own else []
    for other in others:
        earlier += [receipt.shard for receipt in _receipts(folder, other).values()]
    # A name that another plan may have used is never written again: its rows are still wanted.
    mark = f"-{plan_id[:8]}" if earlier or others else ""
    shards = tuple(
        ShardPlan(number, f"{SHARDS}/{number:05d}{mark}.parquet", slices)
        for number, slices in enumerate(_cut(scan.pieces, rows_per_shard))
    )
    return Plan(plan_id, shards, _receipts(folder, plan_id), tuple(earlier))


def _receipts(folder: Folder, plan_id: str) -> dict[int, Receipt]:
    names = [name for name in folder.names(f"{PROGRESS}/{plan_id}") if name.endswith(".json")]
    read = (folder.read_bytes(f"{PROGRESS}/{plan_id}/{name}") for name in names)
    receipts = [Receipt.model_validate_json(data) for data in read]
    return {receipt.number: receipt for receipt in receipts if folder.exists(receipt.shard.file)}


def _cut(scans: Sequence[PieceScan], rows_per_shard: int) -> Iterator[tuple[Slice, ...]]:
    """Cut the corpus into runs of `rows_per_shard` good rows."""
    slices: list[Slice] = []
    room = rows_per_shard
    for scan in scans:
        bad = np.array([rejection.row for rejection in scan.rejected], np.int64)
        good = np.delete(np.arange(scan.rows), bad)
        at = 0
        while at < len(good):
            taken = good[at : at + room]
            start, stop = int(taken[0]), int(taken[-1]) + 1
            skip = frozenset(bad[(bad >= start) & (bad < stop)].tolist())
            slices.append(Slice(scan.piece, start, stop, skip))
            at += len(taken)
            room -= len(taken)
            if room == 0:
                yield tuple(slices)
                slices, room = [], rows_per_shard
    if slices:
        yield tuple(slices)


def reading_units(shards: Sequence[ShardPlan]) -> list[tuple[ShardPlan, ...]]:
    """Group shards that begin in the same piece, so that a piece is read once from its top."""
    return [tuple(unit) for _, unit in groupby(shards, lambda shard: shard.slices[0].piece)]
