"""Topics: the words that set a cluster apart, by class-based TF-IDF (Grootendorst 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raybert.clustering.cells import Clusters
from raybert.errors import InputError
from raybert.vectors.bounds import Matrix


@dataclass(frozen=True, slots=True)
class Topic:
    """One cluster as a reader sees it.

    Args:
        number: of the cluster.
        size: rows in it.
        words: those that set it apart, best first, with their weights.
        examples: rows nearest to its centre.
    """

    number: int
    size: int
    words: tuple[tuple[str, float], ...]
    examples: tuple[int, ...]


def describe_topics(
    texts: Sequence[str],
    rows: Matrix,
    clusters: Clusters,
    *,
    at: npt.NDArray[np.int64] | None = None,
    words: int = 10,
    examples: int = 3,
) -> list[Topic]:
    """Describe every cluster by its words and its most central rows.

    A word's weight in a cluster is its share of the cluster's words times
    log(1 + words of a cluster on average / times the word occurs in all).

    Args:
        texts: [N].
        rows: [M, D] unit rows, of which examples are taken.
        clusters: the cluster of each row [N], -1 where it has none.
        at: [M] the numbers of `rows` among all, rising; None where they are all.
        words: words a topic.
        examples: rows a topic.

    Raises:
        InputError: another number of texts than rows.
    """
    at = np.arange(len(texts), dtype=np.int64) if at is None else at
    if len(texts) != len(clusters.labels) or len(rows) != len(at):
        raise InputError(f"{len(texts)} texts, {len(rows)} rows, {len(clusters.labels)} labels")
    weights, names = _weights(texts, clusters)
    cosines = np.full(len(texts), -np.inf, np.float32)
    cosines[at] = np.einsum("nd,nd->n", rows, clusters.centres[clusters.labels[at]])
    topics = []
    for number, size in enumerate(clusters.sizes.tolist()):
        members = at[clusters.labels[at] == number]
        central = members[np.argsort(-cosines[members], kind="stable")[:examples]]
        best = np.argsort(-weights[number], kind="stable")[:words]
        named = tuple(
            (names[at], round(float(weights[number, at]), 6)) for at in best if weights[number, at]
        )
        topics.append(Topic(number, size, named, tuple(central.tolist())))
    return topics


def _weights(texts: Sequence[str], clusters: Clusters) -> tuple[npt.NDArray[np.float64], list[str]]:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(stop_words="english", max_features=50_000)
    try:
        counts = counter.fit_transform(texts)
    except ValueError:  # no text has a word
        return np.zeros((len(clusters.centres), 0)), []
    inside = np.flatnonzero(clusters.labels >= 0)
    members = csr_matrix(
        (np.ones(len(inside)), (clusters.labels[inside], inside)),
        shape=(len(clusters.centres), len(texts)),
    )
    by_cluster = np.asarray((members @ counts).todense(), dtype=np.float64)
    total = by_cluster.sum(axis=0)
    average = by_cluster.sum() / max(len(by_cluster), 1)
    shares = by_cluster / np.maximum(by_cluster.sum(axis=1, keepdims=True), 1)
    rarity = np.log1p(average / np.maximum(total, 1))
    return shares * rarity, counter.get_feature_names_out().tolist()
