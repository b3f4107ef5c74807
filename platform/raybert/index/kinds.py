"""The kinds of index: how a shard is built and how it is opened, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raybert.errors import InputError
from raybert.index.exact import FlatShard, build_flat
from raybert.index.metric import Floats, Metric
from raybert.index.search import ShardSearch


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of index.

    Args:
        build: prepared vectors [N, D] of one shard to a FAISS index.
        open: FAISS index, metric and the manifest's details to a searcher.
        metrics: the metrics it can rank by.
    """

    build: Callable[[Floats, Metric], Any]
    open: Callable[[Any, Metric, dict[str, Any]], ShardSearch]
    metrics: tuple[str, ...]


def _open_flat(engine: Any, metric: Metric, details: dict[str, Any]) -> ShardSearch:
    return FlatShard(engine, metric, details["greatest_norm"])


KINDS: dict[str, Kind] = {
    "flat": Kind(build_flat, _open_flat, ("cosine", "dot", "euclidean", "manhattan")),
}
"""Kinds of index by name."""


def pick_kind(name: str) -> Kind:
    """Return the kind called `name`.

    Raises:
        InputError: there is no such kind; the message lists those there are.
    """
    if name not in KINDS:
        raise InputError(f"index kind {name!r}: allowed are {', '.join(KINDS)}")
    return KINDS[name]
