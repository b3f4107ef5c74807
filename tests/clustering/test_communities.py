from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util import community_detection as oracle

from raybert.clustering import communities as step
from raybert.clustering import community_detection
from raybert.errors import InputError


@pytest.mark.parametrize(
    ("threshold", "size"), [(0.75, 2), (0.6, 3), (0.5, 10), (0.3, 5), (0.9, 1)]
)
def test_communities_are_the_oracles(title_vectors: Any, threshold: float, size: int) -> None:
    found = community_detection(title_vectors, threshold, size)
    expected = oracle(title_vectors, threshold, size)
    assert found
    assert [set(rows) for rows in found] == [set(rows) for rows in expected]
    assert [rows[0] for rows in found] == [rows[0] for rows in expected]


def test_hard_case_22() -> None:
    rows = np.array([[1, 0], [0.9, 0.1], [0.8, 0.2], [0, 1], [0.1, 0.9]])
    assert community_detection(rows, 0.9, 2) == [[0, 1, 2], [3, 4]]
    units = np.array([[1.0, 0], [0.6, 0.8]])
    assert community_detection(units, 0.6, 2) == [[0, 1]], "the threshold is inclusive"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 5000), rows=st.integers(0, 50), size=st.integers(1, 6))
def test_laws(seed: int, rows: int, size: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(rows, 3))
    found = community_detection(vectors, 0.8, size)
    members = [row for community in found for row in community]
    assert len(members) == len(set(members))
    assert all(len(community) >= size for community in found)
    assert [len(c) for c in found] == sorted((len(c) for c in found), reverse=True)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert all((units[c] @ units[c[0]] >= 0.8 - 1e-6).all() for c in found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "QUERY_TILE", 5)
        patch.setattr(step, "CORPUS_TILE", 7)
        assert community_detection(vectors, 0.8, size) == found


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="min_community_size 0"):
        community_detection(np.eye(2), 0.5, 0)
    with pytest.raises(InputError, match="row 1 holds NaN"):
        community_detection(np.array([[1.0, 0], [np.nan, 0]]), 0.5, 1)
