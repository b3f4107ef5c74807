"""What the routes share: the stages behind them, the limits, the counters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pydantic import Field

from raybert.serving.changes import Changed, DeleteCall, UpsertCall
from raybert.serving.directory import Directory
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.keys import KeySettings
from raybert.serving.limits import Limits
from raybert.serving.messages import (
    Classified,
    ClassifyCall,
    EmbedCall,
    Embedded,
    ScoreCall,
    Scored,
    SearchAnswer,
    SearchCall,
    SparselyEmbedded,
)
from raybert.serving.metrics import Counted, Metrics, Page
from raybert.serving.stages import Searches, summed
from raybert.settings import Settings


class GatewaySettings(Settings):
    """The edge: who may ask, and for how much."""

    limits: Limits = Limits()
    """Bounds of one request."""
    access: KeySettings = KeySettings()
    """API keys; without any, only callers of this machine are answered."""
    auto_truncate: bool = False
    """On the OpenAI routes, cut over-long texts instead of refusing them with 400."""
    links: dict[str, str] = Field(
        default={"MLflow": "http://127.0.0.1:5000", "Ray": "http://127.0.0.1:8265"}
    )
    """Other pages of the platform, as the search console links to them."""
    reranker: str | None = None
    """Model for rerank requests that name none; None takes the first that can."""


class Counts(Protocol):
    """All replicas of a gateway."""

    async def counted(self) -> list[Counted]:
        """Return what each has counted."""
        ...


@dataclass(slots=True)
class Desk:
    """The stages a gateway works with, each call bounded and counted.

    Args:
        settings: the edge's own settings.
        models: the model stages.
        searches: the search stage, if the graph has one.
        peers: the gateway's replicas, if there may be several.
    """

    settings: GatewaySettings
    models: Directory
    searches: Searches | None = None
    peers: Counts | None = None
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def limits(self) -> Limits:
        """Bounds of one request."""
        return self.settings.limits

    async def embed(self, call: EmbedCall) -> Embedded:
        """Embed, and count it."""
        embedded = await self.models.embed(call)
        self.metrics.count_texts(call.model, embedded.tokens, embedded.truncated, embedded.times)
        return embedded

    async def embed_sparse(self, call: EmbedCall) -> SparselyEmbedded:
        """Embed sparsely, and count it."""
        found = await self.models.embed_sparse(call)
        self.metrics.count_texts(call.model, found.tokens, found.truncated, found.times)
        return found

    async def score(self, call: ScoreCall) -> Scored:
        """Score, and count it."""
        scored = await self.models.score(call)
        self.metrics.count_texts(call.model, scored.tokens, scored.truncated, scored.times)
        return scored

    async def classify(self, call: ClassifyCall) -> Classified:
        """Classify, and count it."""
        found = await self.models.classify(call)
        self.metrics.count_texts(call.model, found.tokens, found.truncated, found.times)
        return found

    async def reranker(self, name: str | None) -> str:
        """Return the model a rerank request means: named, the server's, the first that can."""
        chosen = name or self.settings.reranker
        return chosen or (await self.models.first("rerank", "dense")).name

    async def search(self, call: SearchCall) -> SearchAnswer:
        """Search, and count it."""
        answer = await self._searches().search(call)
        self.metrics.count_stages(answer.stages_ms)
        return answer

    async def upsert(self, call: UpsertCall) -> Changed:
        """Write documents to a live index."""
        return await self._searches().upsert(call)

    async def delete(self, call: DeleteCall) -> Changed:
        """Delete a document of a live index."""
        return await self._searches().delete(call)

    async def page(self) -> Page:
        """Return the counters of every replica, and what is served."""
        models = (await self.models.cards()).values()
        indexes = await self.searches.cards() if self.searches is not None else []
        replicas = [self.metrics.counted()] if self.peers is None else await self.peers.counted()
        own = [gauges for replica in replicas for gauges in replica.gauges]
        return Page(replicas, models, indexes, summed(own or await self.models.gauges()))

    async def only_index(self) -> str:
        """Return the name of the one served index.

        Raises:
            RequestError: there are several, so the request must name one.
        """
        names = [card.name for card in await self._searches().cards()]
        if len(names) == 1:
            return names[0]
        message = f"`index` is missing; served are: {', '.join(map(repr, names))}"
        raise RequestError(FaultKind.INVALID, message, "index")

    def _searches(self) -> Searches:
        if self.searches is None:
            message = "this server has no index; it embeds and reranks only"
            raise RequestError(FaultKind.NO_ROUTE, message)
        return self.searches
