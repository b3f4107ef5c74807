"""A served index: one or several legs, each an index pinned to the model that made its vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from raybert.errors import ArtifactError
from raybert.fusion import FusedHit
from raybert.index import Index, open_index
from raybert.records import ID, TEXT, Hit
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.messages import IndexCard, ModelCard, SearchHit
from raybert.settings import Settings

_SEARCH_THREADS = 4


class IndexSettings(Settings):
    """Where a served index lies; a bare string is the URI of its one dense leg."""

    legs: dict[str, str]
    """URI of an index artifact by leg name, such as `dense`."""


IndexSpec = Annotated[
    IndexSettings,
    BeforeValidator(lambda value: {"legs": {"dense": value}} if isinstance(value, str) else value),
]
"""An index's settings, or just its URI."""


@dataclass(slots=True)
class Leg:
    """One retriever: an index and, once pinned, the served model of its fingerprint."""

    name: str
    index: Index
    threads: ThreadPoolExecutor
    _model: ModelCard | None = None

    @property
    def model(self) -> ModelCard:
        """The served model this leg's queries are encoded by."""
        assert self._model is not None, "pin() comes before the first search"
        return self._model

    def pin(self, name: str, cards: Iterable[ModelCard]) -> None:
        """Find the served model that made the index's vectors.

        Raises:
            ArtifactError: none has its fingerprint; the message says whose the served ones are.
        """
        wanted = self.index.model_fingerprint
        served = list(cards)
        for card in served:
            if card.fingerprint == wanted:
                self._model = card
                return
        found = ", ".join(f"{card.name!r} ({card.fingerprint})" for card in served) or "none"
        raise ArtifactError(
            f"index {name!r}, leg {self.name!r}: made by model {self.index.model_uri} "
            f"({wanted}), which is not served; served are: {found}"
        )

    @property
    def text_column(self) -> str:
        """The payload column that holds the text."""
        column = str(self.index.settings.get("text_column") or TEXT)
        return column if column in self.index.documents.columns else TEXT

    async def search(self, queries_QD: NDArray[np.float32], top_k: int) -> list[Hit]:
        """Return the best hits of the one query, searched beside the event loop."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self.threads, self.index.search, queries_QD, top_k)
        return found[0]


@dataclass(slots=True)
class Generation:
    """One served index in one generation; the first leg holds the documents."""

    name: str
    legs: dict[str, Leg]

    @classmethod
    def open(cls, name: str, settings: IndexSettings, threads: ThreadPoolExecutor) -> Self:
        """Open every leg.

        Raises:
            ArtifactError: an index is missing, unfinished or damaged, or there is no leg.
        """
        if not settings.legs:
            raise ArtifactError(f"index {name!r}: name at least one leg (legs: {{dense: URI}})")
        legs = {leg: Leg(leg, open_index(uri), threads) for leg, uri in settings.legs.items()}
        return cls(name, legs)

    @property
    def fingerprint(self) -> str:
        """The generation: the legs' fingerprints."""
        return "+".join(leg.index.generation for leg in self.legs.values())

    @property
    def rows(self) -> int:
        """Documents of the first leg."""
        return len(next(iter(self.legs.values())).index)

    def card(self) -> IndexCard:
        """Return what the edge needs to know."""
        models = {name: leg.model.name for name, leg in self.legs.items()}
        return IndexCard(self.name, self.fingerprint, self.rows, models)

    def pick(self, names: Sequence[str] | None) -> Mapping[str, Leg]:
        """Return the named legs, or all.

        Raises:
            RequestError: `INVALID` for a leg this index does not have.
        """
        if names is None:
            return self.legs
        for name in names:
            if name not in self.legs:
                message = (
                    f"`retrievers` names {name!r}; index {self.name!r} has: {', '.join(self.legs)}"
                )
                raise RequestError(FaultKind.INVALID, message, "retrievers")
        return {name: self.legs[name] for name in names}

    def answers(self, kept: Sequence[FusedHit]) -> list[SearchHit]:
        """Return hits with their documents, in the given order."""
        first = next(iter(self.legs.values()))
        documents = first.index.documents.take([hit.id for hit in kept])
        return [
            _answer(hit, document, first.text_column)
            for hit, document in zip(kept, documents, strict=True)
        ]


def open_generations(indexes: Mapping[str, IndexSettings]) -> dict[str, Generation]:
    """Open every index; their searches share a few threads beside the event loop.

    Raises:
        ArtifactError: an index is missing, unfinished or damaged.
    """
    threads = ThreadPoolExecutor(_SEARCH_THREADS, "search")
    return {name: Generation.open(name, each, threads) for name, each in indexes.items()}


def _answer(hit: FusedHit, document: Mapping[str, Any], text_column: str) -> SearchHit:
    fields = {name: each for name, each in document.items() if name not in {ID, text_column}}
    return SearchHit(hit.id, str(document.get(text_column) or ""), hit.score, fields, hit.places)
