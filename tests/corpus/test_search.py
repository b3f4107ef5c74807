"""The top-k join on Ray: against brute force, at any cut, killed, and with bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raybert.corpus.search import Join, join_topk, read_ids, scores_of
from raybert.errors import ArtifactError, InputError
from raybert.vectors import blocks_of, exact_topk

pytestmark = pytest.mark.usefixtures("ray_session")
WriteEmbeddings = Callable[..., str]
RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(90, 12)).astype(np.float32)
CORPUS = RNG.normal(size=(400, 12)).astype(np.float32)
CORPUS[200:260] = CORPUS[3]
IDS = [f"d{n:04d}" for n in RNG.permutation(400)]


def joined(join: Join, **options: Any) -> tuple[Any, Any]:
    list(join_topk(join, **options))
    found = [join.neighbours(receipt) for _, receipt in sorted(join.receipts().items())]
    return (
        np.concatenate([part.orders for part in found]),
        np.concatenate([part.scores for part in found]),
    )


@pytest.mark.parametrize(
    ("shards", "workers", "parts"), [(1, 1, 1), (2, 2, 0), (5, 2, 3), (5, 1, 0)]
)
def test_any_cut_gives_what_brute_force_gives(
    write_embeddings: WriteEmbeddings, tmp_path: Path, shards: int, workers: int, parts: int
) -> None:
    join = Join.open(
        write_embeddings("queries", QUERIES, shards),
        write_embeddings("corpus", CORPUS, shards, IDS),
        str(tmp_path / "out"),
        70,
    )
    rows, scores = joined(join, workers=workers, corpus_parts=parts)
    by_id = np.argsort(IDS)
    expected = exact_topk(QUERIES, blocks_of(CORPUS[by_id]), 70)
    assert (rows == by_id[expected.orders]).all()
    assert np.abs(scores - expected.scores).max() < 1e-6
    assert read_ids(join.corpus).to_pylist() == IDS
    pairs = np.arange(90), np.arange(90) * 4
    cosines = [QUERIES[q] @ CORPUS[r] for q, r in zip(*pairs, strict=True)]
    lengths = [
        np.linalg.norm(QUERIES[q]) * np.linalg.norm(CORPUS[r]) for q, r in zip(*pairs, strict=True)
    ]
    assert scores_of(join, *pairs) == pytest.approx(np.array(cosines) / lengths, abs=1e-6)


def test_what_has_a_receipt_is_not_computed_again(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    join = Join.open(
        write_embeddings("queries", QUERIES, 4),
        write_embeddings("corpus", CORPUS, 2, IDS),
        str(tmp_path / "out"),
        500,
    )
    first = next(iter(join_topk(join, workers=1)))
    left = set(range(4)) - set(join.receipts())
    done_again = {receipt.number for receipt in join_topk(join, workers=1)}
    assert first.number not in done_again
    assert done_again <= left | {first.number}
    assert list(join_topk(join)) == []
    rows, scores = joined(join)
    assert rows.shape == (90, 500)
    assert (rows[:, 400:] == -1).all()
    assert np.isneginf(scores[:, 400:]).all()


def test_embeddings_that_do_not_belong_together_are_refused(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    queries = write_embeddings("queries", QUERIES, 1)
    other = write_embeddings("other", CORPUS, 1, IDS, model="another")
    with pytest.raises(ArtifactError, match=r"is of the model m, .* of another: only embeddings"):
        Join.open(queries, other, str(tmp_path / "out"), 3)
    narrow = write_embeddings("narrow", CORPUS[:, :5], 1, IDS)
    with pytest.raises(InputError, match="12 and 5 wide"):
        list(join_topk(Join.open(queries, narrow, str(tmp_path / "out"), 3)))
    with pytest.raises(InputError, match="top-k 0"):
        Join.open(queries, queries, str(tmp_path / "out"), 0)


def test_a_damaged_shard_is_named(write_embeddings: WriteEmbeddings, tmp_path: Path) -> None:
    queries = write_embeddings("queries", QUERIES, 1)
    corpus = write_embeddings("corpus", CORPUS, 2, IDS)
    join = Join.open(queries, corpus, str(tmp_path / "out"), 3)
    shard = Path(corpus) / "shards" / "00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-7] + b"damaged")
    with pytest.raises(ArtifactError, match=r"00001\.parquet: damaged"):
        list(join_topk(join))
