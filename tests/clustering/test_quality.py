from __future__ import annotations

import numpy as np
import pytest

from raybert.clustering import Clusters, cluster_quality
from raybert.errors import InputError
from raybert.vectors.nearest import prepared

RNG = np.random.default_rng(0)
PLANTED = np.repeat([0, 1, 2], 20)
ROWS = prepared(np.eye(3, 6)[PLANTED] * 4 + RNG.normal(size=(60, 6)) * 0.3, "cosine")
CENTRES = prepared(np.eye(3, 6), "cosine")


def test_planted_clusters_are_judged_perfect_and_mixed_ones_are_not() -> None:
    names = [f"topic {label}" for label in PLANTED]
    good = cluster_quality(ROWS, Clusters(PLANTED, CENTRES), names)
    assert good["silhouette"] > 0.8
    for name in ("nmi", "ari", "homogeneity", "completeness", "v_measure"):
        assert good[name] == pytest.approx(1)
    mixed = cluster_quality(ROWS, Clusters(RNG.permutation(PLANTED), CENTRES), names)
    assert mixed["silhouette"] < 0.1
    assert mixed["nmi"] < 0.3
    assert abs(mixed["ari"]) < 0.2


def test_one_cluster_has_no_silhouette_and_labels_must_be_as_many_as_rows() -> None:
    one = Clusters(np.zeros(60, np.int64), CENTRES[:1])
    assert cluster_quality(ROWS, one) == {}
    with pytest.raises(InputError, match="2 labels for 60 rows"):
        cluster_quality(ROWS, one, ["a", "b"])
