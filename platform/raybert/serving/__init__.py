"""Serving: encoders, rerankers and indexes behind the HTTP dialects their clients already speak.

A served graph is a gateway and its stages. The stages are plain classes (`Embedder`, `Reranker`,
`Searcher`); `raybert.serving.deployments` carries them on Ray Serve, and `serve/*.py` wire them.
"""

from raybert.serving.desk import Desk, GatewaySettings
from raybert.serving.directory import Directory
from raybert.serving.embedder import Embedder
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.gateway import build_gateway
from raybert.serving.generation import IndexSettings, IndexSpec, open_generations
from raybert.serving.host import ModelSpec
from raybert.serving.keys import hash_key, new_key
from raybert.serving.lanes import BatchSettings
from raybert.serving.reranker import Reranker
from raybert.serving.searcher import Searcher
from raybert.serving.served_model import ModelSettings

__all__ = [
    "BatchSettings",
    "Desk",
    "Directory",
    "Embedder",
    "FaultKind",
    "GatewaySettings",
    "IndexSettings",
    "IndexSpec",
    "ModelSettings",
    "ModelSpec",
    "RequestError",
    "Reranker",
    "Searcher",
    "build_gateway",
    "hash_key",
    "new_key",
    "open_generations",
]
