from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import sparse

from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.errors import ArtifactError, InputError
from raybert.index import build_index, open_index
from raybert.index.inverted import InvertedFile, InvertedShard

TERMS = 60


def drawn(rows: int, density: float = 0.1, seed: int = 0, terms: int = TERMS) -> Any:
    """Sparse rows of few different weights: many scores are equal."""
    draw = np.random.default_rng(seed)
    found: Any = sparse.random_array((rows, terms), density=density, rng=draw, format="csr")
    found.data = np.round(found.data * 4) / 4 + 0.25
    return found.astype(np.float32)


def by_product(
    corpus: Any, queries: Any, k: int, passes: Any = None
) -> list[list[tuple[int, Any]]]:
    """The k best rows by SciPy's product, ties by row, rows of score 0 left out."""
    scores = (queries.astype(np.float64) @ corpus.T.astype(np.float64)).toarray()
    found = []
    for row in scores.astype(np.float32):
        rows = np.flatnonzero((row > 0) & (True if passes is None else passes))
        order = rows[np.lexsort((rows, -row[rows]))][:k]
        found.append([(int(at), row[at]) for at in order])
    return found


def listed(shard: InvertedShard, queries: Any, k: int, passes: Any = None) -> Any:
    found = shard.search(queries, k, passes)
    return [
        [(int(row), score) for row, score in zip(rows, scores, strict=True) if row >= 0]
        for rows, scores in zip(found.orders, found.scores, strict=True)
    ]


@pytest.mark.parametrize("k", [1, 10, 200, 5000])
@pytest.mark.parametrize("rows", [1, 50, 40_000])
def test_search_equals_the_product(rows: int, k: int) -> None:
    corpus, queries = drawn(rows), drawn(12, 0.2, seed=1)
    shard = InvertedShard(InvertedFile.of(corpus), TERMS)
    assert listed(shard, queries, k) == by_product(corpus, queries, min(k, rows))
    passes = np.random.default_rng(2).random(rows) < 0.1
    assert listed(shard, queries, k, passes) == by_product(corpus, queries, min(k, rows), passes)


def test_rows_added_and_deleted_are_seen_by_the_next_search() -> None:
    draw = np.random.default_rng(5)
    corpus, queries = drawn(300), drawn(6, 0.2, seed=1)
    shard = InvertedShard(InvertedFile.of(corpus), TERMS)
    alive = np.ones(300, np.bool_)
    for step in range(12):
        more = drawn(int(draw.integers(1, 40)), seed=step + 10)
        corpus = sparse.vstack([corpus, more]).tocsr()
        shard.add(more)
        alive = np.concatenate([alive, np.ones(more.shape[0], np.bool_)])
        gone = draw.choice(len(alive), 20, replace=False)
        alive[gone] = False
        shard.delete(gone)
        passes = draw.random(len(alive)) < 0.5
        assert len(shard) == len(alive)
        assert listed(shard, queries, 15) == by_product(corpus, queries, 15, alive)
        assert listed(shard, queries, 15, passes) == by_product(corpus, queries, 15, alive & passes)
    with pytest.raises(InputError, match="61 wide: this index holds rows 60 wide"):
        shard.add(drawn(2, terms=61))
    with pytest.raises(InputError, match="0 to"):
        shard.delete(np.array([99_999]))


@pytest.fixture
def write_sparse(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes sparse rows as `encode_corpus` does."""

    def write(rows: Any, *, shard_rows: int = 100, similarity: str = "dot") -> str:
        folder, shards = Folder(tmp_path / "sparse"), []
        for at, start in enumerate(range(0, rows.shape[0], shard_rows)):
            part = rows[start : start + shard_rows]
            starts = pa.array(part.indptr.astype(np.int32))
            table = pa.table(
                {
                    "id": [f"d{row:05d}" for row in range(start, start + part.shape[0])],
                    "terms": pa.ListArray.from_arrays(starts, part.indices.astype(np.int32)),
                    "weights": pa.ListArray.from_arrays(starts, part.data.astype(np.float32)),
                }
            )
            shards.append(write_table(folder, f"shards/{at:05d}.parquet", table))
        model = Input(kind="model", uri="models/s", fingerprint="s1")
        details = {"dimension": TERMS, "sparse": True, "similarity_fn_name": similarity}
        manifest = Manifest(
            kind="embeddings",
            rows=rows.shape[0],
            inputs=(model,),
            shards=tuple(shards),
            details=details,
        )
        write_manifest(folder, manifest)
        return folder.uri

    return write


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_sharded_index_from_disk_equals_the_product(
    write_sparse: Callable[..., str], tmp_path: Path, metric: str
) -> None:
    corpus, queries = drawn(450), drawn(8, 0.2, seed=1)
    embeddings = write_sparse(corpus, similarity=metric)
    found = []
    for shards in (1, 4):
        out = str(tmp_path / f"{metric}{shards}")
        manifest = build_index(embeddings, out, kind="inverted", shards=shards)
        assert manifest.details["recall"]["value"] == 1.0
        assert manifest.details["reads"] == "sparse"
        found.append(open_index(out).search(queries, 20))
    assert found[0] == found[1]
    if metric == "dot":
        rows = [[(int(hit.id[1:]), np.float32(hit.score)) for hit in hits] for hits in found[0]]
        assert rows == by_product(corpus, queries, 20)
    index = open_index(str(tmp_path / f"{metric}4"))
    tensor = torch.from_numpy(queries.toarray()).to_sparse()
    assert index.search(tensor, 20) == found[0] == index.search(queries.toarray(), 20)
    assert index.search(np.zeros(TERMS), 5) == [[]]


def test_faults_are_told_in_one_line(write_sparse: Callable[..., str], tmp_path: Path) -> None:
    embeddings, out = write_sparse(drawn(50)), tmp_path / "index"
    with pytest.raises(InputError, match="holds sparse vectors; this index kind needs dense"):
        build_index(embeddings, str(out))
    with pytest.raises(InputError, match="cannot rank by 'euclidean': dot, cosine"):
        build_index(embeddings, str(out), kind="inverted", metric="euclidean")
    with pytest.raises(InputError, match="built from the texts of a corpus"):
        build_index(embeddings, str(out), kind="bm25")
    build_index(embeddings, str(out), kind="inverted")
    index = open_index(str(out))
    with pytest.raises(InputError, match=r"over 60 terms, of the model models/s"):
        index.search(np.ones((1, 59)))
    for bad in (np.nan, -0.5):
        with pytest.raises(InputError, match=f"query 1: weight {bad}"):
            index.search(np.array([[0] * TERMS, [bad] * TERMS]))
    (file,) = out.glob("shards/*")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    for damaged in (bytes(data), bytes(data[:-9])):
        file.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"00000\.safetensors: damaged"):
            open_index(str(out))
    file.write_bytes(b"no header at all")
    with pytest.raises(ArtifactError, match=r"00000\.safetensors: no index file"):
        open_index(str(out), verify=False)


def test_bad_rows_are_named(write_sparse: Callable[..., str], tmp_path: Path) -> None:
    rows = drawn(120)
    rows.data[rows.indptr[107]] = -1
    with pytest.raises(InputError, match=r"00001\.parquet: id 'd00107': weight -1"):
        build_index(write_sparse(rows), str(tmp_path / "index"), kind="inverted")
    wide = drawn(20, terms=70)
    with pytest.raises(InputError, match="the vocabulary has 60 terms"):
        build_index(write_sparse(wide), str(tmp_path / "index"), kind="inverted")
