"""The kinds of index: how a shard is built and how it is opened, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from raybert.errors import InputError
from raybert.index.ann import GraphShard, ListShard, build_graph, build_lists
from raybert.index.engine_files import BITS, FLOATS, LISTS, EngineFormat
from raybert.index.exact import FlatShard, build_flat
from raybert.index.inverted import InvertedFile, InvertedShard
from raybert.index.metric import METRICS, Floats, Metric
from raybert.index.rescoring import (
    ProductShard,
    QuantizedShard,
    Store,
    build_bits,
    build_bytes,
    build_products,
)
from raybert.index.search import ShardSearch
from raybert.vectors import Ranges

Build = Callable[[Any, Metric, Ranges | None], Any]
Open = Callable[[Any, Metric, Store | None, dict[str, Any]], ShardSearch]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of index.

    Args:
        build: prepared rows of one shard, and the corpus's ranges, to an engine.
        open: engine, metric, store and the manifest's details to a searcher.
        metrics: the metrics it can rank by.
        efforts: efforts to choose from, least first; none where search is exact.
        store: what candidates are scored by if nothing else is said; None where there is no store.
        format: of its engine's file.
        ranged: whether building needs the corpus's ranges.
        reads: what it is built from and asked by: dense vectors, sparse rows or text.
    """

    build: Build
    open: Open
    metrics: tuple[str, ...] = tuple(METRICS)
    efforts: tuple[int, ...] = ()
    store: str | None = None
    format: EngineFormat = FLOATS
    ranged: bool = False
    reads: Literal["dense", "sparse", "text"] = "dense"


def _bytes(vectors_ND: Floats, metric: Metric, ranges: Ranges | None) -> Any:
    assert ranges is not None, "the builder computes ranges for kinds that need them"
    return build_bytes(vectors_ND, metric, ranges)


def _lists(rows_NV: Any, _: Metric, __: Ranges | None) -> InvertedFile:
    return InvertedFile.of(rows_NV)


def _open_lists(lists: Any, _: Metric, __: Store | None, details: dict[str, Any]) -> InvertedShard:
    return InvertedShard(lists, details["dimension"])


def _open_flat(engine: Any, metric: Metric, _: Store | None, details: dict[str, Any]) -> FlatShard:
    return FlatShard(engine, metric, details["greatest_norm"])


KINDS: dict[str, Kind] = {
    "flat": Kind(lambda vectors, metric, _: build_flat(vectors, metric), _open_flat),
    "hnsw": Kind(
        lambda vectors, metric, _: build_graph(vectors, metric),
        lambda engine, metric, _, __: GraphShard(engine, metric),
        metrics=("cosine", "dot", "euclidean"),
        efforts=(32, 64, 128, 256, 512, 1024),
    ),
    "ivf": Kind(
        lambda vectors, metric, _: build_lists(vectors, metric),
        lambda engine, metric, _, __: ListShard(engine, metric),
        metrics=("cosine", "dot", "euclidean"),
        efforts=(4, 8, 16, 32, 64, 128, 256, 512),
    ),
    "int8": Kind(
        _bytes,
        lambda engine, metric, store, _: QuantizedShard(engine, metric, store, binary=False),
        metrics=("cosine", "dot", "euclidean"),
        efforts=(1, 2, 4, 8),
        store="none",
        ranged=True,
    ),
    "binary": Kind(
        lambda vectors, _, __: build_bits(vectors),
        lambda engine, metric, store, _: QuantizedShard(engine, metric, store, binary=True),
        metrics=("cosine", "dot"),
        efforts=(2, 4, 8, 16, 32, 64),
        store="int8",
        format=BITS,
    ),
    "pq": Kind(
        lambda vectors, metric, _: build_products(vectors, metric),
        lambda engine, metric, store, _: ProductShard(engine, metric, store),
        metrics=("cosine", "dot", "euclidean"),
        efforts=(2, 4, 8, 16, 32, 64),
        store="int8",
    ),
    "inverted": Kind(_lists, _open_lists, ("dot", "cosine"), format=LISTS, reads="sparse"),
    "bm25": Kind(_lists, _open_lists, ("dot",), format=LISTS, reads="text"),
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
