"""What is read off a join is what the whole set gives in one piece, however it is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raybert.clustering import assign, community_detection
from raybert.corpus.clusters import (
    ClusterRules,
    assign_shards,
    cluster_rows,
    joined_communities,
    sample_rows,
)
from raybert.corpus.joined import joined_pairs, neighbours_both_ways
from raybert.corpus.search import Join
from raybert.errors import InputError
from raybert.index.source import Embeddings
from raybert.mining import choose_bitext, mine_bitext, mine_paraphrases
from raybert.vectors.nearest import prepared

pytestmark = pytest.mark.usefixtures("ray_session")
WriteEmbeddings = Callable[..., str]
RNG = np.random.default_rng(0)
TOPICS = RNG.normal(size=(9, 10))
ROWS = (TOPICS[RNG.integers(0, 9, 300)] + RNG.normal(size=(300, 10)) * 0.4).astype(np.float32)
OTHERS = (ROWS[:140] + RNG.normal(size=(140, 10)) * 0.1).astype(np.float32)
IDS = [f"d{n:04d}" for n in range(300)]
CUTS = [(1, 1), (2, 2), (5, 1), (5, 2)]


@pytest.fixture(params=CUTS, ids=str)
def cut(request: Any, write_embeddings: WriteEmbeddings) -> tuple[Embeddings, Embeddings, int]:
    """Two sides of some shards, and the number of workers."""
    shards, workers = request.param
    sides = write_embeddings("rows", ROWS, shards, IDS), write_embeddings("others", OTHERS, shards)
    return Embeddings.open(sides[0]), Embeddings.open(sides[1]), workers


def test_any_cut_gives_what_one_piece_gives(
    cut: tuple[Embeddings, Embeddings, int], tmp_path: Path
) -> None:
    rows, others, workers = cut
    out, place = str(tmp_path / "out"), rows.folder.uri

    join = Join.open(place, place, out, 8, "cosine", least=0.6)
    pairs = joined_pairs(join, 150, workers)
    whole = mine_paraphrases(ROWS, top_k=7, max_pairs=150, threshold=0.6)
    assert len(pairs.scores) == 150
    assert np.array_equal(pairs.scores, whole.scores)
    assert np.array_equal(np.stack([pairs.left, pairs.right]), np.stack([whole.left, whole.right]))

    found = choose_bitext(neighbours_both_ways(rows, others, out, 4, workers))
    expected = mine_bitext(ROWS, OTHERS)
    assert found.targets.tolist() == expected.targets.tolist()
    assert found.sources.tolist() == expected.sources.tolist()

    units = prepared(ROWS, "cosine")
    centres = units[[3, 70, 200]]
    assert assign_shards(rows, centres, workers).tolist() == assign(units, centres).tolist()
    communities = joined_communities(rows, 0.8, 5, workers)
    assert len(communities) > 3
    assert communities == community_detection(ROWS, 0.8, 5)
    step = sample_rows(rows, 100)
    assert np.array_equal(step, units[::3])


def test_clusters_do_not_depend_on_the_cut(write_embeddings: WriteEmbeddings) -> None:
    labels = []
    for shards in (1, 4):
        rows = Embeddings.open(write_embeddings(f"by-{shards}", ROWS, shards, IDS))
        found = [
            cluster_rows(rows, ClusterRules(method=method, clusters=9, seed=3))
            for method in ("kmeans", "mini-batch-kmeans", "agglomerative")
        ]
        near = cluster_rows(rows, ClusterRules(method="communities", threshold=0.8))
        labels.append([one.labels.tolist() for one in [*found, near]])
        with pytest.raises(InputError, match="clusters 0: 1 to 300"):
            cluster_rows(rows, ClusterRules())
    assert labels[0] == labels[1]
    assert min(labels[0][3]) == -1


def test_a_zero_row_is_near_to_nothing_and_does_no_harm(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    rows = ROWS[:40].copy()
    rows[7] = 0
    place = write_embeddings("zero", rows, 2)
    join = Join.open(place, place, str(tmp_path / "out"), 500, "cosine", least=0.1)
    pairs = joined_pairs(join, 10_000)
    assert 7 not in pairs.left.tolist() + pairs.right.tolist()
    assert np.isfinite(pairs.scores).all()
