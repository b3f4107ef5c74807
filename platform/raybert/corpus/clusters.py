"""Clustering of embeddings on Ray: a shard a task, so that no process holds all vectors.

Shapes: N rows, D width, C centres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import ray

from raybert.clustering import (
    Clusters,
    agglomerative,
    assign,
    chosen_communities,
    learn_centres,
)
from raybert.clustering.cells import SAMPLE
from raybert.clustering.communities import NearRows, members_by_row
from raybert.corpus.cluster import cluster_size, connect
from raybert.corpus.search import shard_vectors
from raybert.devices import set_threads
from raybert.index.source import Embeddings
from raybert.settings import Settings
from raybert.tracking import JobProgress
from raybert.vectors.bounds import Bounds, Matrix
from raybert.vectors.nearest import Bounded, Rows
from raybert.vectors.topk import Scores


class ClusterRules(Settings):
    """How rows are clustered."""

    method: str = "kmeans"
    """kmeans, mini-batch-kmeans, agglomerative, communities or topics."""
    clusters: int | None = None
    """How many."""
    threshold: float | None = None
    """Least cosine in a community (0.75 if None), or of clusters that still join."""
    min_size: int = 10
    """Rows in a community at least."""
    seed: int = 0
    """Of k-means."""


def cluster_rows(embeddings: Embeddings, rules: ClusterRules, workers: int = 0) -> Clusters:
    """Cluster all rows; those that belong to no community have the cluster -1.

    K-means learns its centres from 50,000 rows at even distances and assigns the others on Ray;
    agglomeration holds all vectors.

    Raises:
        InputError: as told by the method.
    """
    if rules.method == "communities":
        least = 0.75 if rules.threshold is None else rules.threshold
        found = joined_communities(embeddings, least, rules.min_size, workers)
        labels = np.full(embeddings.manifest.rows, -1, np.int64)
        for number, members in enumerate(found):
            labels[members] = number
        firsts = np.array([members[0] for members in found], np.int64)
        return Clusters(labels, _rows_at(embeddings, firsts, _starts(embeddings)))
    if rules.method == "agglomerative":
        rows = sample_rows(embeddings, embeddings.manifest.rows)
        return agglomerative(rows, clusters=rules.clusters, threshold=rules.threshold)
    rows = sample_rows(embeddings, SAMPLE)
    mini_batch = rules.method == "mini-batch-kmeans"
    centres = learn_centres(rows, rules.clusters or 0, seed=rules.seed, mini_batch=mini_batch)
    return Clusters(assign_shards(embeddings, centres, workers), centres)


def sample_rows(embeddings: Embeddings, count: int) -> Matrix:
    """Return `count` unit rows at even distances over the corpus, or all, in corpus order."""
    step = max(1, -(-embeddings.manifest.rows // count))
    first, parts = 0, []
    for number, shard in enumerate(embeddings.manifest.shards):
        parts.append(shard_vectors(embeddings, number, "cosine")[-first % step :: step])
        first += shard.rows
    return np.concatenate(parts)


def assign_shards(embeddings: Embeddings, centres: Matrix, workers: int = 0) -> Rows:
    """Return the nearest centre of every row by cosine, [N]; the first among equals.

    Raises:
        RaybertError: a damaged shard, another width, NaN values: as told by a task.
    """
    assigned = partial(_assigned, embeddings, centres)
    return np.concatenate(_by_shard(assigned, embeddings, workers, "assign"))


def joined_communities(
    embeddings: Embeddings, threshold: float, min_community_size: int, workers: int = 0
) -> list[list[int]]:
    """Find the communities that `community_detection` finds, shard against shard.

    The driver holds one number a row, and the members of one batch of centres.
    """
    bounds = _bounds(embeddings, threshold)
    sizes = np.concatenate(
        _by_shard(partial(_sizes, embeddings, threshold, bounds), embeddings, workers, "compare")
    )
    starts = _starts(embeddings)

    def members_of(centres: Rows) -> list[Rows]:
        vectors = _rows_at(embeddings, centres, starts)
        asked = partial(_near, embeddings, threshold, bounds, vectors)
        found = _by_shard(asked, embeddings, workers)
        rows, cosines = (np.concatenate([part[at] for part in found]) for at in (0, 2))
        moved = zip(found, starts.tolist(), strict=False)
        others = np.concatenate([part[1] + first for part, first in moved])
        return members_by_row(rows, others, cosines, len(centres))

    return chosen_communities(sizes, members_of, min_community_size)


def _starts(embeddings: Embeddings) -> Rows:
    """Return the first row of every shard, and the number of all."""
    return np.cumsum([0, *(shard.rows for shard in embeddings.manifest.shards)])


def _by_shard(
    work: Callable[[int], Any], embeddings: Embeddings, workers: int, name: str = ""
) -> list[Any]:
    """Do work on every shard, a task each; returns the results in order.

    How far it has come is shown where the work has a name.
    """
    connect()
    task = ray.remote(num_cpus=1, max_retries=3)(_run)
    shared = ray.put(work)
    most = workers or max(1, int(cluster_size()[0]))
    sizes = [shard.rows for shard in embeddings.manifest.shards]
    numbers = list(range(len(sizes)))
    running: list[Any] = []
    results: dict[int, Any] = {}
    refs: dict[Any, int] = {}
    with JobProgress(name, sum(sizes), "rows", show=bool(name)) as shown:
        while numbers or running:
            while numbers and len(running) < most:
                running.append(task.remote(shared, numbers[0]))
                refs[running[-1]] = numbers.pop(0)
            ready, running = ray.wait(running)
            results |= {refs[ref]: ray.get(ref) for ref in ready}
            shown.advance(sum(sizes[refs[ref]] for ref in ready))
    return [results[number] for number in sorted(results)]


def _run(work: Callable[[int], Any], number: int) -> Any:
    set_threads(1)
    return work(number)


def _assigned(embeddings: Embeddings, centres: Matrix, number: int) -> Rows:
    return assign(shard_vectors(embeddings, number, "cosine"), centres)


def _bounds(embeddings: Embeddings, threshold: float) -> Bounds:
    rows = shard_vectors(embeddings, 0, "cosine")
    return Bounds.fit(rows, rows, embeddings.manifest.rows, embeddings.manifest.rows, threshold)


def _sizes(embeddings: Embeddings, threshold: float, bounds: Bounds, number: int) -> Rows:
    """Count the rows of the whole corpus that are near to each row of a shard."""
    rows = shard_vectors(embeddings, number, "cosine")
    sizes = np.zeros(len(rows), np.int64)
    for other in range(len(embeddings.manifest.shards)):
        near, _, _ = _near(embeddings, threshold, bounds, rows, other)
        sizes += np.bincount(near, minlength=len(rows))
    return sizes


def _near(
    embeddings: Embeddings, threshold: float, bounds: Bounds, rows: Matrix, number: int
) -> tuple[Rows, Rows, Scores]:
    """Return pairs (row, row of a shard, cosine) that are near."""
    shard = shard_vectors(embeddings, number, "cosine")
    sides = Bounded.of(shard, np.arange(len(shard)), bounds)
    asked = Bounded.of(rows, np.arange(len(rows)), bounds)
    found: Sequence[Any] = [*NearRows(sides, bounds, threshold).pairs(asked)]
    near, others, cosines = (np.concatenate(part) for part in zip(*found, strict=True))
    return near, others, cosines


def _rows_at(embeddings: Embeddings, rows: Rows, starts: Rows) -> Matrix:
    """Read the vectors of some rows, in the order asked."""
    shards = np.searchsorted(starts, rows, side="right") - 1
    vectors: Any = np.empty((0, 0), np.float32)
    for number in np.unique(shards).tolist():
        read = shard_vectors(embeddings, number, "cosine")
        vectors = vectors if len(vectors) else np.empty((len(rows), read.shape[1]), np.float32)
        inside = np.flatnonzero(shards == number)
        vectors[inside] = read[rows[inside] - starts[number]]
    return np.asarray(vectors)
