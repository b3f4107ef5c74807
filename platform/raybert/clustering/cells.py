"""Clusters by k-means, mini-batch k-means or agglomeration: a number for every row.

scikit-learn does the arithmetic; rows are scaled to length 1, so that distance follows the cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError
from raybert.vectors.bounds import Matrix
from raybert.vectors.nearest import nearest, prepared

SAMPLE = 50_000
"""Rows that centres are learnt from at most."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """The cluster of each row, [N], from 0 or -1 for none, and the centres [C, D] of unit rows."""

    labels: npt.NDArray[np.int64]
    centres: Matrix

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Rows in each cluster."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.centres))


def kmeans(
    vectors: npt.NDArray[Any], clusters: int, *, seed: int = 0, mini_batch: bool = False
) -> Clusters:
    """Cluster rows around `clusters` centres; centres are learnt from 50,000 rows at most.

    Raises:
        InputError: fewer rows than clusters, fewer than one cluster, NaN values.
    """
    rows = prepared(vectors, "cosine")
    step = max(1, -(-len(rows) // SAMPLE))
    centres = learn_centres(rows[::step], clusters, seed=seed, mini_batch=mini_batch)
    return Clusters(assign(rows, centres), centres)


def learn_centres(
    rows: Matrix, clusters: int, *, seed: int = 0, mini_batch: bool = False
) -> Matrix:
    """Learn `clusters` centres [C, D] from unit rows; a sample of a corpus will do.

    Raises:
        InputError: fewer rows than clusters, fewer than one cluster.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if not 1 <= clusters <= len(rows):
        raise InputError(f"clusters {clusters}: 1 to {len(rows)}, the number of rows")
    chosen = MiniBatchKMeans if mini_batch else KMeans
    model = chosen(clusters, random_state=seed, n_init=3).fit(rows)
    return prepared(model.cluster_centers_, "cosine")


def assign(rows: Matrix, centres: Matrix) -> npt.NDArray[np.int64]:
    """Return the nearest centre of every row by cosine, [N]; the first among equals."""
    return np.asarray(nearest(rows, centres, 1).orders[:, 0])


def agglomerative(
    vectors: npt.NDArray[Any],
    *,
    clusters: int | None = None,
    threshold: float | None = None,
) -> Clusters:
    """Join the nearest clusters, average linkage by cosine, until a count or a distance is met.

    Memory grows with the square of the rows.

    Args:
        vectors: [N, D], at least two rows.
        clusters: how many to leave.
        threshold: or the least cosine at which clusters still join.

    Raises:
        InputError: neither bound or both, more clusters than rows, too few rows.
    """
    from sklearn.cluster import AgglomerativeClustering

    rows = prepared(vectors, "cosine")
    if (clusters is None) == (threshold is None):
        raise InputError("agglomerative clustering needs either clusters or threshold")
    if len(rows) < 2 or (clusters is not None and not 1 <= clusters <= len(rows)):
        raise InputError(f"clusters {clusters} of {len(rows)} rows: 1 to the rows, of 2 or more")
    if not np.square(rows).sum(axis=1).all():
        raise InputError("agglomerative clustering by cosine: a row holds only zeros")
    model = AgglomerativeClustering(
        n_clusters=clusters,
        distance_threshold=None if threshold is None else 1 - threshold,
        metric="cosine",
        linkage="average",
    )
    found = model.fit_predict(rows)
    firsts = np.unique(found, return_index=True)[1]
    labels = np.argsort(np.argsort(firsts))[found].astype(np.int64)
    sums = np.zeros((len(firsts), rows.shape[1]))
    np.add.at(sums, labels, rows)
    return Clusters(labels, prepared(sums, "cosine"))
