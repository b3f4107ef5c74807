"""A leg's retriever in processes of its own: the shards of its index shared out among parts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, Self

from raybert.artifacts import read_manifest
from raybert.errors import ArtifactError
from raybert.index import Index, open_index
from raybert.index.live import is_live
from raybert.index.open import DOCUMENTS
from raybert.index.queries import Queries
from raybert.index.search import merged
from raybert.records import Hit

_SEARCH_THREADS = 4


@dataclass(frozen=True, slots=True)
class RetrieveCall:
    """Queries for one part of one index.

    Args:
        index: the fingerprint of the index that is meant.
        queries: as its `search` takes them.
        top_k: hits wanted a query.
        filter: conditions on the documents' columns.
    """

    index: str
    queries: Queries
    top_k: int
    filter: Mapping[str, Any] | None = None


class Retrieves(Protocol):
    """One part of a leg."""

    async def retrieve(self, call: RetrieveCall) -> list[list[Hit]]:
        """Return the part's best hits of every query."""
        ...


class Retriever:
    """One part: every so many-th shard of a finished index, searched beside the event loop.

    Args:
        index: those shards, opened.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self._threads = ThreadPoolExecutor(_SEARCH_THREADS, "retrieve")

    @classmethod
    def open(cls, uri: str, part: int = 0, parts: int = 1) -> Self:
        """Open a part of the index at `uri`.

        Raises:
            ArtifactError: it is missing, unfinished, damaged, live, or has fewer shards than parts.
        """
        if is_live(uri):
            raise ArtifactError(f"index {uri}: a live index has no retriever of its own yet")
        shards = sum(each.file.startswith(f"{DOCUMENTS}/") for each in read_manifest(uri).shards)
        if parts > shards:
            raise ArtifactError(f"index {uri}: {shards} shard(s) cannot be shared by {parts} parts")
        return cls(open_index(uri, only=range(part, shards, parts)))

    async def retrieve(self, call: RetrieveCall) -> list[list[Hit]]:
        """Return the best hits of every query.

        Raises:
            ArtifactError: another index lies here than the one that is meant.
        """
        if call.index != self.index.generation:
            raise ArtifactError(
                f"index {call.index} is meant, {self.index.generation} is opened: restart the app"
            )
        loop, search = asyncio.get_running_loop(), self.index.search
        return await loop.run_in_executor(
            self._threads, search, call.queries, call.top_k, call.filter
        )


async def retrieve_from(parts: Sequence[Retrieves], call: RetrieveCall) -> list[list[Hit]]:
    """Ask every part side by side; return the best hits of every query."""
    found = await asyncio.gather(*(part.retrieve(call) for part in parts))
    return [merged(lists, call.top_k) for lists in zip(*found, strict=True)]
