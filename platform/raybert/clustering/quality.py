"""How good clusters are: by themselves (silhouette), and against labels people gave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raybert.clustering.cells import Clusters
from raybert.errors import InputError
from raybert.vectors.bounds import Matrix

_SAMPLE = 5_000


def cluster_quality(
    rows: Matrix, clusters: Clusters, truth: Sequence[str] | None = None
) -> dict[str, float]:
    """Judge clusters.

    Args:
        rows: [N, D] unit rows.
        clusters: the cluster of each row.
        truth: [N] the label that people gave each row, if they did.

    Returns:
        `silhouette` by cosine (of 5,000 rows at even distances; absent where there are not two
        clusters at least), and with labels `nmi`, `ari`, `homogeneity`, `completeness` and
        `v_measure`.

    Raises:
        InputError: another number of labels than rows.
    """
    from sklearn import metrics

    found: dict[str, float] = {}
    step = max(1, -(-len(rows) // _SAMPLE))
    part, labels = rows[::step], clusters.labels[::step]
    if 2 <= len(np.unique(labels)) < len(labels):
        found["silhouette"] = float(metrics.silhouette_score(part, labels, metric="cosine"))
    if truth is None:
        return found
    if len(truth) != len(clusters.labels):
        raise InputError(f"{len(truth)} labels for {len(clusters.labels)} rows")
    given = list(truth)
    whole = metrics.homogeneity_completeness_v_measure(given, clusters.labels)
    found |= dict(zip(("homogeneity", "completeness", "v_measure"), map(float, whole), strict=True))
    found["nmi"] = float(metrics.normalized_mutual_info_score(given, clusters.labels))
    found["ari"] = float(metrics.adjusted_rand_score(given, clusters.labels))
    return found
