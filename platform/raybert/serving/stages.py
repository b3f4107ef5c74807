"""What the stages of a served graph offer each other: in one process, or behind Ray handles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from raybert.serving.changes import Changed, DeleteCall, UpsertCall
from raybert.serving.messages import (
    Classified,
    ClassifyCall,
    EmbedCall,
    Embedded,
    IndexCard,
    ModelCard,
    ScoreCall,
    Scored,
    SearchAnswer,
    SearchCall,
    SparselyEmbedded,
)
from raybert.serving.preparing import Piece

Gauges = dict[str, dict[str, float]]
"""A stage's numbers by model name: `queued_tokens`, `batches`, …"""


def summed(parts: Iterable[Gauges]) -> Gauges:
    """Return the numbers of several stages, or of several replicas of one, added up by model."""
    total: Gauges = {}
    for part in parts:
        for model, numbers in part.items():
            into = total.setdefault(model, {})
            for name, value in numbers.items():
                into[name] = into.get(name, 0.0) + value
    return total


class Serves(Protocol):
    """A stage that holds models."""

    async def cards(self) -> list[ModelCard]:
        """Return what is served here."""
        ...

    async def gauges(self) -> Gauges:
        """Return each model's batcher counters."""
        ...

    async def pieces(
        self, name: str, texts: Sequence[str], special_tokens: bool, prompt_name: str | None
    ) -> list[list[Piece]]:
        """Return the tokens of texts with their places, never cut."""
        ...

    async def decode(
        self, name: str, ids: Sequence[Sequence[int]], skip_special_tokens: bool
    ) -> list[str]:
        """Return the texts that token ids stand for."""
        ...


class Embeds(Serves, Protocol):
    """A stage that embeds texts."""

    async def embed(self, call: EmbedCall) -> Embedded:
        """Return one vector a text."""
        ...

    async def embed_sparse(self, call: EmbedCall) -> SparselyEmbedded:
        """Return one sparse vector a text."""
        ...

    async def similarities(self, call: ScoreCall) -> Scored:
        """Return one score a text: the similarity of its vector and the query's."""
        ...


class Reranks(Serves, Protocol):
    """A stage that scores pairs."""

    async def score(self, call: ScoreCall) -> Scored:
        """Return one score a text, given the query and the text together."""
        ...

    async def classify(self, call: ClassifyCall) -> Classified:
        """Return one score a label for each text, or pair of texts."""
        ...


class Searches(Protocol):
    """A stage that answers queries from indexes."""

    async def cards(self) -> list[IndexCard]:
        """Return what is served here."""
        ...

    async def search(self, call: SearchCall) -> SearchAnswer:
        """Return the best hits of one query."""
        ...

    async def upsert(self, call: UpsertCall) -> Changed:
        """Write documents to a live index."""
        ...

    async def delete(self, call: DeleteCall) -> Changed:
        """Delete a document of a live index."""
        ...
