"""The app `embed`: encoders and rerankers by name. Run it with the values of `serve/embed.yaml`."""

from pydantic import Field
from ray.serve import Application

from raybert.serving import GatewaySettings, ModelSpec
from raybert.serving.deployments import Gateway, RerankStage, WholeGraph
from raybert.serving.wiring import StageSettings, deployed, embed_stages
from raybert.settings import Settings


class EmbedApp(Settings):
    """What `args:` of the YAML may say."""

    models: dict[str, ModelSpec] = Field(min_length=1)
    """Encoders by served name: a folder, or a folder with settings."""
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
    reranker: StageSettings = StageSettings()
    """Replicas of the cross-encoders."""


def build(args: EmbedApp) -> Application:
    """Wire the graph."""
    if args.together:
        return deployed(WholeGraph, args.edge).bind(
            args.gateway, args.models, args.rerankers, {}, args.edge.threads
        )
    embeds = embed_stages(args.models, args.embedder, args.encoders)
    reranks = None
    if args.rerankers:
        reranks = deployed(RerankStage, args.reranker).bind(args.rerankers, args.reranker.threads)
    return deployed(Gateway, args.edge).bind(args.gateway, embeds, reranks)
