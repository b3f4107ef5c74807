from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from raybert.clustering import agglomerative, assign, kmeans
from raybert.errors import InputError
from raybert.vectors.nearest import prepared


@pytest.fixture
def blobs() -> tuple[Any, Any]:
    """Ninety rows around three directions, and which."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 30)
    return np.eye(3, 8)[labels] * 5 + rng.normal(size=(90, 8)) * 0.4, labels


@pytest.mark.parametrize("mini_batch", [False, True])
def test_kmeans_finds_what_was_planted(blobs: tuple[Any, Any], mini_batch: bool) -> None:
    vectors, labels = blobs
    found = kmeans(vectors, 3, seed=1, mini_batch=mini_batch)
    assert adjusted_rand_score(labels, found.labels) == 1.0
    assert found.sizes.tolist() == [30, 30, 30]
    assert np.linalg.norm(found.centres, axis=1) == pytest.approx(1, abs=1e-6)
    again = kmeans(vectors, 3, seed=1, mini_batch=mini_batch)
    assert (again.labels == found.labels).all()
    rows = prepared(vectors, "cosine")
    assert (assign(rows[50:], found.centres) == found.labels[50:]).all(), "rows go one by one"


@pytest.mark.parametrize("bound", [{"clusters": 3}, {"threshold": 0.5}], ids=str)
def test_agglomeration_finds_what_was_planted(blobs: tuple[Any, Any], bound: Any) -> None:
    vectors, labels = blobs
    found = agglomerative(vectors, **bound)
    assert found.labels.tolist() == labels.tolist(), "clusters are numbered by their first row"
    assert len(found.centres) == 3


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="clusters 4: 1 to 3"):
        kmeans(np.eye(3), 4)
    with pytest.raises(InputError, match="either clusters or threshold"):
        agglomerative(np.eye(3))
    with pytest.raises(InputError, match="either clusters or threshold"):
        agglomerative(np.eye(3), clusters=2, threshold=0.5)
    with pytest.raises(InputError, match="clusters 9 of 3 rows"):
        agglomerative(np.eye(3), clusters=9)
    with pytest.raises(InputError, match="only zeros"):
        agglomerative(np.zeros((3, 2)), clusters=2)
