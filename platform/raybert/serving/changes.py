"""Changes of a live index, between the edge and the search stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class UpsertCall:
    """Documents to write; each replaces the one of its id.

    Args:
        index: served name of the index.
        ids: their ids, each once.
        texts: their texts, encoded by the index's own model.
        fields: further columns of each.
    """

    index: str
    ids: Sequence[str]
    texts: Sequence[str]
    fields: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class DeleteCall:
    """A document to delete."""

    index: str
    id: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A change that is on disk: every search that begins from now on sees it.

    Args:
        index: served name of the index.
        documents: how many were written or deleted.
        generation: the index that was changed.
        tokens: tokens encoded for it.
    """

    index: str
    documents: int
    generation: str
    tokens: int = 0
