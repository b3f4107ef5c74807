"""The stages and the gateway as Ray Serve deployments; `serve/*.py` wire them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from raybert.errors import RaybertError, SettingsError
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
from raybert.serving.remote import Peers, RemoteModels, RemoteSearch, outcome
from raybert.serving.reranker import Reranker
from raybert.serving.searcher import Searcher
from raybert.serving.served_model import ModelSettings
from raybert.serving.stages import Gauges
from raybert.settings import Settings, environment


class StageSettings(Settings):
    """One deployment: how many replicas, what each may take, how much may wait."""

    replicas: int = 1
    """Copies of this stage; two or more survive the loss of one."""
    cpus: float = 1.0
    """CPUs a replica reserves in Ray."""
    gpus: float = 0.0
    """GPUs a replica reserves in Ray."""
    threads: int | None = None
    """Threads torch uses in a replica; None takes all cores of the machine."""
    max_ongoing_requests: int = 256
    """Requests a replica works on at a time; its token batcher needs many to fill batches."""
    max_queued_requests: int = 512
    """Requests that wait for a replica; beyond it 429 at once."""
    surge_percent: int = 100
    """Share of the replicas that a rollout may start before it stops old ones."""

    def options(self) -> dict[str, Any]:
        """Return the options of the Ray Serve deployment."""
        return {
            "num_replicas": self.replicas,
            "ray_actor_options": {"num_cpus": self.cpus, "num_gpus": self.gpus},
            "max_ongoing_requests": self.max_ongoing_requests,
            "max_queued_requests": self.max_queued_requests,
            "max_surge_percent": self.surge_percent,
            "backpressure_config": {"status_code": 429, "retry_after_s": 1.0},
        }


def deployed(stage: type[Any], settings: StageSettings) -> Any:
    """Return a stage as a Ray Serve deployment; `.bind(…)` wires it."""
    edge = hasattr(stage, "__serve_build_asgi_app__")
    return serve.deployment(serve.ingress()(stage) if edge else stage).options(**settings.options())


def embed_stages(
    models: Mapping[str, ModelSettings],
    shared: StageSettings,
    apart: Mapping[str, StageSettings],
) -> list[serve.Application]:
    """Return the encoders' stages: a deployment for each model of `apart`, one for the others.

    Raises:
        SettingsError: a stage is named that no model has.
    """
    for name in apart:
        if name not in models:
            raise SettingsError(f"encoders: no model {name!r}; there are: {', '.join(models)}")
    others = {name: each for name, each in models.items() if name not in apart}
    stages = [
        deployed(EmbedStage, each).options(name=f"EmbedStage-{name}").bind(
            {name: models[name]}, each.threads
        )
        for name, each in apart.items()
    ]  # fmt: skip
    if others:
        stages.append(deployed(EmbedStage, shared).bind(others, shared.threads))
    return stages


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
    """

    def __init__(
        self,
        indexes: Mapping[str, IndexSettings],
        embeds: Sequence[DeploymentHandle],
        reranks: DeploymentHandle | None = None,
        reranker: str | None = None,
    ) -> None:
        models = Directory(EmbedStages([RemoteModels(each) for each in embeds]), _remote(reranks))
        self.stage = Searcher(open_generations(indexes), models, reranker)
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
