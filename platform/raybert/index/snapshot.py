"""A live index as it stood at one moment: what a search sees, whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from raybert.errors import InputError
from raybert.index.columns import check_filter, conformed, filter_within
from raybert.index.filters import Filter, passing
from raybert.index.fresh import Fresh
from raybert.index.kinds import pick_kind
from raybert.index.live_rows import row_form
from raybert.index.live_state import LiveState
from raybert.index.metric import Metric, pick_metric
from raybert.index.queries import Queries
from raybert.index.search import merged
from raybert.index.segments import Segment
from raybert.records import CONTENT, ID, Hit

Hits: TypeAlias = list[list[Hit]]


@dataclass(frozen=True, slots=True)
class World:
    """The parts that count: sealed segments, oldest first, and the rows of each log.

    Args:
        state: the state that names them.
        schema: payload columns and their types.
    """

    state: LiveState
    segments: tuple[Segment, ...]
    fresh: tuple[Fresh, ...]
    schema: pa.Schema

    def kill(self, sequence: int, ids: Sequence[str]) -> None:
        """Mark the rows of `ids` as dead from `sequence` on, wherever they stand."""
        for segment in self.segments:
            segment.kill(sequence, ids)
        for rows in self.fresh:
            rows.kill(sequence, ids)


class Snapshot:
    """Searches the rows that lived at `sequence`; offers what an `Index` offers.

    Args:
        world: the parts that hold them, and perhaps later ones.
        sequence: the last change that is seen.
    """

    def __init__(self, world: World, sequence: int) -> None:
        self.world = world
        self.sequence = sequence
        self.documents = LiveDocuments(world, sequence)

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def dimension(self) -> int:
        """Width of the vectors, and of the queries."""
        return self.world.state.dimension

    @property
    def reads(self) -> str:
        """What it is asked by: `dense` vectors or `sparse` rows."""
        return pick_kind(self.world.state.kind).reads

    @property
    def metric(self) -> Metric:
        """The similarity hits are ranked by."""
        return pick_metric(self.world.state.metric)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings the texts are encoded by."""
        return dict(self.world.state.encoding)

    @property
    def generation(self) -> str:
        """The live index itself, the same for as long as it lives."""
        return self.world.state.identity

    @property
    def model_fingerprint(self) -> str:
        """The model that queries must be encoded by."""
        return self.world.state.model.fingerprint

    @property
    def model_uri(self) -> str:
        """Where that model lay when the index was made."""
        return self.world.state.model.uri

    def search(
        self, queries: Queries, top_k: int = 10, filter: Filter | None = None
    ) -> list[list[Hit]]:
        """Return the best hits of every query, as `Index.search` does; the same is refused."""
        if top_k < 1:
            raise InputError(f"top_k {top_k}: at least 1 is allowed")
        rows = row_form(self.world.state).reader(queries)
        if filter is not None:
            check_filter(filter, self.world.schema)
        parts = [self._sealed(part, rows, top_k, filter) for part in self.world.segments]
        parts += [self._fresh(part, rows, top_k, filter) for part in self.world.fresh]
        return [merged([part[at] for part in parts], top_k) for at in range(rows.shape[0])]

    def _sealed(self, part: Segment, rows: Any, top_k: int, filter: Filter | None) -> Hits:
        if filter is not None:
            filter = filter_within(filter, part.index.documents.columns, self.world.schema)
        return part.search(rows, top_k, self.sequence, filter)

    def _fresh(self, part: Fresh, rows: Any, top_k: int, filter: Filter | None) -> Hits:
        allowed = None
        if filter is not None and len(part):
            table = conformed(part.payload(self.sequence), self.world.schema)
            allowed = passing(filter, table)
        return part.search(rows, top_k, self.sequence, allowed)


class LiveDocuments:
    """The documents that lived at one moment."""

    def __init__(self, world: World, sequence: int) -> None:
        self._world = world
        self._sequence = sequence

    def __len__(self) -> int:
        sealed = sum(
            len(part.index) - len(part.dead(self._sequence)) for part in self._world.segments
        )
        return sealed + sum(int(part.alive(self._sequence).sum()) for part in self._world.fresh)

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and self._found(identifier) is not None

    @property
    def columns(self) -> list[str]:
        """Names of the columns: the id and the payload."""
        return [ID, *self._world.schema.names]

    def take(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the documents of `ids`, in that order: id and payload columns.

        Raises:
            InputError: an id is not in the index.
        """
        return [self._document(identifier) for identifier in ids]

    def _document(self, identifier: str) -> dict[str, Any]:
        found = self._found(identifier)
        if found is None:
            raise InputError(f"document {identifier!r} is not in the index")
        found.pop(CONTENT, None)
        return dict.fromkeys(self.columns) | found

    def _found(self, identifier: str) -> dict[str, Any] | None:
        for fresh in reversed(self._world.fresh):
            row = fresh.row_of(identifier, self._sequence)
            if row is not None:
                return dict(fresh.payload(self._sequence).slice(row, 1).to_pylist()[0])
        for part in reversed(self._world.segments):
            if part.has(identifier, self._sequence):
                return dict(part.index.documents.take([identifier])[0])
        return None
