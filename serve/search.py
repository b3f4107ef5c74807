"""The app `search`: retrieve and rerank. Run it with the values of `serve/search.yaml`."""

from typing import Self

from pydantic import Field, model_validator
from ray.serve import Application

from raybert.serving import GatewaySettings, IndexSpec, ModelSpec
from raybert.serving.deployments import Gateway, RerankStage, SearchStage, WholeGraph
from raybert.serving.wiring import (
    RetrieverSettings,
    StageSettings,
    deployed,
    embed_stages,
    retrieve_stages,
)
from raybert.settings import Settings


class SearchApp(Settings):
    """What `args:` of the YAML may say."""

    models: dict[str, ModelSpec] = Field(min_length=1)
    """Encoders by served name: a folder, or a folder with settings."""
    indexes: dict[str, IndexSpec] = Field(min_length=1)
    """Indexes by served name: a URI of an index, a live index or a name with generations, or
    `legs:` with several; each must be made by one of the models."""
    rerankers: dict[str, ModelSpec] = Field({})
    """Cross-encoders by served name."""
    together: bool = True
    """Everything in one replica (least latency), or each stage a deployment of its own."""
    gateway: GatewaySettings = GatewaySettings()
    """Limits and keys."""
    edge: StageSettings = StageSettings()
    """Replicas of the gateway (of the whole graph, if together)."""
    embedder: StageSettings = StageSettings()
    """Replicas of the encoders."""
    encoders: dict[str, StageSettings] = Field({})
    """Encoders that get a deployment of their own instead, by served name."""
    searcher: StageSettings = StageSettings()
    """Replicas of the stage that joins the legs, and searches those without their own."""
    retrievers: dict[str, RetrieverSettings] = Field({})
    """Legs that get deployments of their own, by `INDEX/LEG`: replicas, and parts of their shards
    (only apart; of finished indexes)."""
    reranker: StageSettings = StageSettings()
    """Replicas of the cross-encoders."""

    @model_validator(mode="after")
    def _check_apart(self) -> Self:
        if self.together and self.retrievers:
            raise ValueError("retrievers: of their own only with `together: false`")
        return self


def build(args: SearchApp) -> Application:
    """Wire the graph."""
    if args.together:
        return deployed(WholeGraph, args.edge).bind(
            args.gateway, args.models, args.rerankers, args.indexes, args.edge.threads
        )
    embeds = embed_stages(args.models, args.embedder, args.encoders)
    reranks = None
    if args.rerankers:
        reranks = deployed(RerankStage, args.reranker).bind(args.rerankers, args.reranker.threads)
    searches = deployed(SearchStage, args.searcher).bind(
        args.indexes,
        embeds,
        reranks,
        args.gateway.reranker,
        retrieve_stages(args.indexes, args.retrievers),
    )
    return deployed(Gateway, args.edge).bind(args.gateway, embeds, reranks, searches)
