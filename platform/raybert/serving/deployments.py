"""The stages and the gateway as replicas of Ray Serve carry them; see `raybert.serving.wiring`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from raybert.errors import RaybertError
from raybert.records import Hit
from raybert.serving.changes import Changed, DeleteCall, UpsertCall
from raybert.serving.desk import Desk, GatewaySettings
from raybert.serving.directory import Directory
from raybert.serving.embed_stages import EmbedStages
from raybert.serving.embedder import Embedder
from raybert.serving.gateway import build_gateway
from raybert.serving.generation import IndexSettings, open_generations
from raybert.serving.host import ModelHost
from raybert.serving.messages import (
    Classified,
    ClassifyCall,
    EmbedCall,
    Embedded,
    ModelCard,
    ScoreCall,
    Scored,
    SearchAnswer,
    SearchCall,
    SparselyEmbedded,
)
from raybert.serving.metrics import Counted
from raybert.serving.preparing import Piece
from raybert.serving.promotion import Promotions
from raybert.serving.remote import Peers, RemoteModels, RemoteRetriever, RemoteSearch, outcome
from raybert.serving.reranker import Reranker
from raybert.serving.retriever import RetrieveCall, Retriever
from raybert.serving.scaling import tokens_in_hand
from raybert.serving.searcher import Searcher
from raybert.serving.served_model import ModelSettings
from raybert.serving.stages import Gauges
from raybert.settings import environment


class RetrieveStage:
    """A part of a leg in replicas of its own.

    Args:
        uri: the leg's index.
        part: which part this is, from 0.
        parts: how many there are.
    """

    def __init__(self, uri: str, part: int, parts: int) -> None:
        self.stage = Retriever.open(uri, part, parts)

    async def retrieve(self, call: RetrieveCall) -> list[list[Hit]] | RaybertError:
        """Search; a fault is returned, not raised."""
        return await outcome(self.stage.retrieve(call))


class _ModelStage:
    """What both model stages offer beside their task; a fault is returned, not raised."""

    stage: ModelHost
    promotions: Promotions

    async def cards(self) -> list[ModelCard]:
        """Return what is served here."""
        return await self.stage.cards()

    async def gauges(self) -> Gauges:
        """Return each model's batcher counters."""
        return await self.stage.gauges()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell Ray Serve how much there is to do here."""
        return tokens_in_hand([await self.stage.gauges()])

    async def pieces(self, *arguments: Any) -> list[list[Piece]] | RaybertError:
        """Tokenize."""
        return await outcome(self.stage.pieces(*arguments))

    async def decode(self, *arguments: Any) -> list[str] | RaybertError:
        """Turn token ids back into texts."""
        return await outcome(self.stage.decode(*arguments))

    async def check_health(self) -> None:
        """Send a canary through every model; Ray restarts a replica that fails three times.

        Here too promoted models are taken up: Serve asks every few seconds.
        """
        await self.promotions.follow()
        await self.stage.check()


class EmbedStage(_ModelStage):
    """Encoders by name in a replica of their own.

    Args:
        models: settings of each model by served name.
        threads: torch threads.
    """

    def __init__(self, models: Mapping[str, ModelSettings], threads: int | None = None) -> None:
        self.embedder = self.stage = Embedder.open(models, threads)
        self.promotions = Promotions(self.stage, models)

    async def embed(self, call: EmbedCall) -> Embedded | RaybertError:
        """Embed."""
        return await outcome(self.embedder.embed(call))

    async def embed_sparse(self, call: EmbedCall) -> SparselyEmbedded | RaybertError:
        """Embed by a sparse model."""
        return await outcome(self.embedder.embed_sparse(call))

    async def similarities(self, call: ScoreCall) -> Scored | RaybertError:
        """Score by similarity."""
        return await outcome(self.embedder.similarities(call))


class RerankStage(_ModelStage):
    """Cross-encoders by name in a replica of their own.

    Args:
        models: settings of each model by served name.
        threads: torch threads.
    """

    def __init__(self, models: Mapping[str, ModelSettings], threads: int | None = None) -> None:
        self.reranker = self.stage = Reranker.open(models, threads)
        self.promotions = Promotions(self.stage, models)

    async def score(self, call: ScoreCall) -> Scored | RaybertError:
        """Score pairs."""
        return await outcome(self.reranker.score(call))

    async def classify(self, call: ClassifyCall) -> Classified | RaybertError:
        """Score by label."""
        return await outcome(self.reranker.classify(call))


class SearchStage:
    """Indexes by name in a replica of their own.

    Args:
        indexes: settings of each index by served name.
        embeds: the embedding stages.
        reranks: the reranking stage, if there is one.
        reranker: served model for `rerank: true`.
        retrievers: by index and leg, the deployments that search it.
    """

    def __init__(
        self,
        indexes: Mapping[str, IndexSettings],
        embeds: Sequence[DeploymentHandle],
        reranks: DeploymentHandle | None = None,
        reranker: str | None = None,
        retrievers: Mapping[str, Mapping[str, Sequence[DeploymentHandle]]] | None = None,
    ) -> None:
        models = Directory(EmbedStages([RemoteModels(each) for each in embeds]), _remote(reranks))
        parts = {
            index: {leg: [RemoteRetriever(each) for each in handles] for leg, handles in of.items()}
            for index, of in (retrievers or {}).items()
        }
        self.stage = Searcher(open_generations(indexes, parts), models, reranker)
        self.cards = self.stage.cards

    async def search(self, call: SearchCall) -> SearchAnswer | RaybertError:
        """Search; a fault is returned, not raised."""
        return await outcome(self.stage.search(call))

    async def upsert(self, call: UpsertCall) -> Changed | RaybertError:
        """Write documents; a fault is returned, not raised."""
        return await outcome(self.stage.upsert(call))

    async def delete(self, call: DeleteCall) -> Changed | RaybertError:
        """Delete a document; a fault is returned, not raised."""
        return await outcome(self.stage.delete(call))

    async def check_health(self) -> None:
        """Refuse to start, or to stay, with an index whose model is not the one served."""
        await self.stage.pin()


class _Edge:
    """What both edges offer: the routes, and what their replicas have counted."""

    desk: Desk

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the edge as it stands behind Ray Serve's proxy, or behind its HAProxy.

        HAProxy does not say who calls, so a graph behind it is open only if its settings say so.
        """
        haproxy = environment("RAY_SERVE_ENABLE_HA_PROXY") == "1"
        return build_gateway(self.desk, says_id=False, hidden_callers=haproxy)

    async def counted(self) -> Counted:
        """Return what this replica has counted."""
        return self.desk.metrics.counted(serve.get_replica_context().replica_tag)


class Gateway(_Edge):
    """The edge, in front of stages in replicas of their own.

    Args:
        settings: limits and keys.
        embeds: the embedding stages.
        reranks: the reranking stage, if there is one.
        searches: the search stage, if there is one.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        embeds: Sequence[DeploymentHandle],
        reranks: DeploymentHandle | None = None,
        searches: DeploymentHandle | None = None,
    ) -> None:
        models = Directory(EmbedStages([RemoteModels(each) for each in embeds]), _remote(reranks))
        found = None if searches is None else RemoteSearch(searches)
        self.desk = Desk(settings, models, found, Peers())

    async def check_health(self) -> None:
        """Ask the stages anew what they serve: models are promoted under their names."""
        self.desk.models.forget()


class WholeGraph(_Edge):
    """The edge and every stage in one replica: no hop between them, one copy of torch.

    Args:
        settings: limits and keys.
        models: encoders by served name.
        rerankers: cross-encoders by served name.
        indexes: indexes by served name.
        threads: torch threads.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        models: Mapping[str, ModelSettings],
        rerankers: Mapping[str, ModelSettings],
        indexes: Mapping[str, IndexSettings],
        threads: int | None = None,
    ) -> None:
        self.embedder = Embedder.open(models, threads)
        self.reranker = Reranker.open(rerankers, threads) if rerankers else None
        directory = Directory(self.embedder, self.reranker)
        self.searcher: Searcher | None = None
        if indexes:
            self.searcher = Searcher(open_generations(indexes), directory, settings.reranker)
        self.desk = Desk(settings, directory, self.searcher, Peers())
        self.promotions = [Promotions(self.embedder, models)]
        if self.reranker is not None:
            self.promotions.append(Promotions(self.reranker, rerankers))

    async def counted(self) -> Counted:
        """Return what this replica has counted, its models included."""
        name = serve.get_replica_context().replica_tag
        return self.desk.metrics.counted(name, await self.desk.models.gauges())

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell Ray Serve how much there is to do here."""
        return tokens_in_hand(await self.desk.models.gauges())

    async def check_health(self) -> None:
        """Take up promoted models, pin the indexes to theirs, send a canary through every model."""
        for each in self.promotions:
            await each.follow()
        self.desk.models.forget()
        if self.searcher is not None:
            await self.searcher.pin()
        for host in (self.embedder, self.reranker):
            if host is not None:
                await host.check()


def _remote(handle: DeploymentHandle | None) -> RemoteModels | None:
    return None if handle is None else RemoteModels(handle)
