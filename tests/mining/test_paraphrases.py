from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util import paraphrase_mining_embeddings as oracle

from raybert.errors import InputError
from raybert.mining import mine_paraphrases
from raybert.mining import paraphrases as step
from raybert.vectors.nearest import pair_scores, prepared


def listed(pairs: Any) -> list[tuple[float, int, int]]:
    return [
        (round(float(score), 5), left, right)
        for score, left, right in zip(
            pairs.scores, pairs.left.tolist(), pairs.right.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize(("top_k", "max_pairs"), [(1, 500), (5, 100), (20, 2000), (100, 500_000)])
def test_pairs_are_the_oracles(real: Any, top_k: int, max_pairs: int) -> None:
    found = mine_paraphrases(real.text_vectors, top_k=top_k, max_pairs=max_pairs)
    expected = oracle(torch.from_numpy(real.text_vectors), top_k=top_k, max_pairs=max_pairs)
    assert len(found.scores) == len(expected)
    assert np.abs(found.scores - np.array([score for score, _, _ in expected])).max() < 1e-5
    mine = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    theirs = {(left, right): score for score, left, right in expected}
    last = min(theirs.values())
    assert all(theirs[pair] - last < 1e-6 for pair in set(theirs) - mine), "only a tie may differ"


def test_hard_case_22() -> None:
    rows = np.array([[1, 0], [0.9, 0.1], [0.8, 0.2], [0, 1], [0.1, 0.9]])
    assert listed(mine_paraphrases(rows, top_k=1)) == [
        (0.99388, 0, 1),
        (0.99388, 3, 4),
        (0.99099, 1, 2),
    ]
    # of two that tie for the last place the house keeps the first, the oracle the last
    assert listed(mine_paraphrases(rows, top_k=1, max_pairs=1)) == [(0.99388, 0, 1)]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 60),
    top_k=st.integers(1, 12),
    max_pairs=st.integers(1, 80),
    threshold=st.sampled_from([None, -0.5, 0.3, 0.9]),
)
def test_any_tiles_and_bounds_give_what_brute_force_gives(
    seed: int, rows: int, top_k: int, max_pairs: int, threshold: float | None
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 3))
    vectors[rows // 2 :: 3] = vectors[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "CORPUS_TILE", 7)
        patch.setattr(step, "_HELD", 10)
        found = mine_paraphrases(vectors, top_k=top_k, max_pairs=max_pairs, threshold=threshold)
    whole = mine_paraphrases(vectors, top_k=top_k, max_pairs=max_pairs, threshold=threshold)
    assert listed(found) == listed(whole)
    assert listed(whole) == brute_force(vectors, top_k, max_pairs, threshold)


def brute_force(
    vectors: Any, top_k: int, max_pairs: int, threshold: float | None
) -> list[tuple[float, int, int]]:
    units = prepared(vectors, "cosine")
    count = len(units)
    rows, columns = np.divmod(np.arange(count**2), count)
    scores = pair_scores(units, units, rows, columns).reshape(count, count)
    np.fill_diagonal(scores, -np.inf)
    if threshold is not None:
        scores[scores < np.float32(threshold)] = -np.inf
    pairs = {
        (min(row, int(other)), max(row, int(other)))
        for row in range(len(vectors))
        for other in np.argsort(-scores[row], kind="stable")[:top_k]
        if np.isfinite(scores[row, other])
    }
    ranked = sorted(pairs, key=lambda pair: (-scores[pair], pair))[:max_pairs]
    return [(round(float(scores[pair]), 5), *pair) for pair in ranked]


def test_bounds_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="top_k 0: at least 1"):
        mine_paraphrases(np.eye(2), top_k=0)
    with pytest.raises(InputError, match="max_pairs 0: at least 1"):
        mine_paraphrases(np.eye(2), max_pairs=0)
