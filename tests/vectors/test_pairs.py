from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util import paraphrase_mining_embeddings

from raybert.errors import InputError
from raybert.vectors import top_pairs


@given(seed=st.integers(0, 9999), top_k=st.integers(1, 20), max_pairs=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_pairs_equal_the_oracles_where_nothing_ties(seed: int, top_k: int, max_pairs: int) -> None:
    vectors = np.random.default_rng(seed).standard_normal((15, 5)).astype("f4")
    expected = paraphrase_mining_embeddings(
        torch.from_numpy(vectors), top_k=top_k, max_pairs=max_pairs
    )
    found = top_pairs(vectors, top_k=top_k, max_pairs=max_pairs)
    assert list(zip(found.left, found.right, strict=True)) == [(i, j) for _, i, j in expected]
    np.testing.assert_allclose(found.scores, [score for score, _, _ in expected], atol=1e-6)


def test_ties_go_by_row_and_each_pair_stands_once() -> None:
    found = top_pairs(np.ones((4, 2), dtype="f4"))
    pairs = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert pairs == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert top_pairs(np.ones((4, 2), dtype="f4"), max_pairs=1).right.tolist() == [1]


def test_a_neighbour_is_never_the_row_itself() -> None:
    toy = [[1, 0], [0.9, 0.1], [0.8, 0.2], [0, 1], [0.1, 0.9]]
    found = top_pairs(toy, top_k=1)
    assert list(zip(found.left, found.right, strict=True)) == [(0, 1), (3, 4), (1, 2)]
    np.testing.assert_allclose(found.scores, [0.99388, 0.99388, 0.99099], atol=1e-5)
    alone = top_pairs([[1.0, 0.0]])
    assert len(alone.scores) == 0


def test_bounds_are_checked() -> None:
    with pytest.raises(InputError, match="max_pairs 0"):
        top_pairs(np.ones((2, 2)), max_pairs=0)
