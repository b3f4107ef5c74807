"""A served index: one or several legs, each an index pinned to the model that made its vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self, TypeAlias

from pydantic import BeforeValidator

from raybert.errors import ArtifactError
from raybert.fusion import FusedHit
from raybert.index import Index, open_index
from raybert.index.filters import Filter
from raybert.index.generations import Generations, has_generations
from raybert.index.live import LiveIndex, is_live
from raybert.index.open import open_documents_of
from raybert.index.queries import Queries
from raybert.index.snapshot import Snapshot
from raybert.records import ID, TEXT, Hit
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.messages import IndexCard, ModelCard, SearchHit
from raybert.serving.retriever import RetrieveCall, Retrieves, retrieve_from
from raybert.settings import Settings

_SEARCH_THREADS = 4
Standing: TypeAlias = Index | Snapshot
"""An index as it stands: finished, or a live one at one moment."""


class IndexSettings(Settings):
    """Where a served index lies; a bare string is the URI of its one dense leg.

    A URI is a finished index, a live one, or the folder of a name with generations, whose current
    one is served and followed when it is switched.
    """

    legs: dict[str, str]
    """URI of an index by leg name, such as `dense`."""


IndexSpec = Annotated[
    IndexSettings,
    BeforeValidator(lambda value: {"legs": {"dense": value}} if isinstance(value, str) else value),
]
"""An index's settings, or just its URI."""


@dataclass(slots=True)
class Leg:
    """One retriever: an index and, once pinned, the served model of its fingerprint."""

    name: str
    index: Standing
    threads: ThreadPoolExecutor
    live: LiveIndex | None = None
    parts: Sequence[Retrieves] = ()
    _model: ModelCard | None = None

    @classmethod
    def open(
        cls, name: str, uri: str, threads: ThreadPoolExecutor, parts: Sequence[Retrieves] = ()
    ) -> Self:
        """Open the index of a leg; where `parts` search it, only its documents.

        Raises:
            ArtifactError: it is missing, unfinished or damaged.
        """
        if parts:
            return cls(name, open_documents_of(uri), threads, parts=parts)
        if not is_live(uri):
            return cls(name, open_index(uri), threads)
        live = LiveIndex(uri)
        return cls(name, live.snapshot(), threads, live)

    def now(self) -> Leg:
        """Return the leg as it stands now, for one search to see one state throughout."""
        return self if self.live is None else replace(self, index=self.live.snapshot())

    @property
    def model(self) -> ModelCard:
        """The served model this leg's queries are encoded by."""
        assert self._model is not None, "pin() comes before the first search"
        return self._model

    @property
    def reader(self) -> str:
        """What reads the queries: the served model by name, or `bm25` where texts are indexed."""
        return "bm25" if self.index.reads == "text" else self.model.name

    def pin(self, name: str, cards: Iterable[ModelCard]) -> None:
        """Find the served model that made the index's vectors; an index of texts needs none.

        Raises:
            ArtifactError: none has its fingerprint; the message says whose the served ones are.
        """
        if self.index.reads == "text":
            return
        wanted = self.index.model_fingerprint
        served = list(cards)
        for card in served:
            if wanted in (card.fingerprint, *card.earlier):
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
        known = self.live is not None or column in self.index.documents.columns
        return column if known else TEXT

    async def search(self, query: Queries, top_k: int, filter: Filter | None = None) -> list[Hit]:
        """Return the best hits of the one query, searched beside the event loop."""
        return (await self.search_all(query, top_k, filter))[0]

    async def search_all(
        self, queries: Queries, top_k: int, filter: Filter | None = None
    ) -> list[list[Hit]]:
        """Return the best hits of every query, searched beside the event loop or by the parts."""
        if self.parts:
            call = RetrieveCall(self.index.generation, queries, top_k, filter)
            return await retrieve_from(self.parts, call)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, self.index.search, queries, top_k, filter)


@dataclass(slots=True)
class Generation:
    """One served index in one generation; the first leg holds the documents.

    Args:
        name: served name.
        legs: its indexes.
        root: folder of the index name, where generations are followed.
        record: the generation's name there.
    """

    name: str
    legs: dict[str, Leg]
    root: str | None = None
    record: str = ""

    @classmethod
    def open(
        cls,
        name: str,
        settings: IndexSettings,
        threads: ThreadPoolExecutor,
        parts: Mapping[str, Sequence[Retrieves]] | None = None,
    ) -> Self:
        """Open every leg; of a name with generations, those of the current one.

        Args:
            name: served name.
            settings: the legs.
            threads: search beside the event loop.
            parts: by leg, what searches it instead.

        Raises:
            ArtifactError: an index is missing, unfinished or damaged, or there is no leg.
        """
        if not settings.legs:
            raise ArtifactError(f"index {name!r}: name at least one leg (legs: {{dense: URI}})")
        only = next(iter(settings.legs.values()))
        if len(settings.legs) == 1 and has_generations(only):
            return cls.of_generation(name, Generations(only), None, threads)
        of = parts or {}
        legs = {
            leg: Leg.open(leg, uri, threads, of.get(leg, ())) for leg, uri in settings.legs.items()
        }
        return cls(name, legs)

    @classmethod
    def of_generation(
        cls, name: str, generations: Generations, record: str | None, threads: ThreadPoolExecutor
    ) -> Self:
        """Open a generation of an index name; the current one if None.

        Raises:
            ArtifactError: it is missing, or not what it was when it was added.
        """
        chosen = generations.current if record is None else generations.named(record)
        legs = generations.legs(chosen)
        opened = {leg: Leg.open(leg, uri, threads) for leg, uri in legs.items()}
        return cls(name, opened, generations.folder.uri, chosen.name)

    def now(self) -> Generation:
        """Return it as it stands now: live legs at one moment each."""
        if all(leg.live is None for leg in self.legs.values()):
            return self
        return replace(self, legs={name: leg.now() for name, leg in self.legs.items()})

    async def standing(self) -> Generation:
        """Return it as it stands now; a live leg may have much to read, beside the event loop."""
        if all(leg.live is None for leg in self.legs.values()):
            return self
        threads = next(iter(self.legs.values())).threads
        return await asyncio.get_running_loop().run_in_executor(threads, self.now)

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
        models = {name: leg.reader for name, leg in self.legs.items()}
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


def open_generations(
    indexes: Mapping[str, IndexSettings],
    retrievers: Mapping[str, Mapping[str, Sequence[Retrieves]]] | None = None,
) -> dict[str, Generation]:
    """Open every index; their searches share a few threads beside the event loop.

    Args:
        indexes: where they lie, by served name.
        retrievers: what searches a leg instead, by served name and leg.

    Raises:
        ArtifactError: an index is missing, unfinished or damaged.
    """
    threads = ThreadPoolExecutor(_SEARCH_THREADS, "search")
    of = retrievers or {}
    return {
        name: Generation.open(name, each, threads, of.get(name)) for name, each in indexes.items()
    }


def _answer(hit: FusedHit, document: Mapping[str, Any], text_column: str) -> SearchHit:
    fields = {name: each for name, each in document.items() if name not in {ID, text_column}}
    return SearchHit(hit.id, str(document.get(text_column) or ""), hit.score, fields, hit.places)
