from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raybert.artifacts import read_manifest
from raybert.errors import ArtifactError, InputError
from raybert.index import KINDS, build_index, open_index
from raybert.vectors import blocks_of, exact_topk

WriteEmbeddings = Callable[..., str]
APPROXIMATE = [kind for kind in KINDS if KINDS[kind].reads == "dense" and kind != "flat"]


def clustered(rows: int, width: int = 64, seed: int = 0) -> Any:
    """Vectors in loose groups, as those of texts are."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((40, width))
    noise = draw.standard_normal((rows, width))
    return (centres[draw.integers(0, 40, rows)] + noise).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [(kind, metric) for kind in APPROXIMATE for metric in KINDS[kind].metrics],
)
def test_recall_reaches_the_target_and_is_what_the_manifest_says(
    write_embeddings: WriteEmbeddings, tmp_path: Path, kind: str, metric: str
) -> None:
    both = clustered(3100)
    corpus, queries = both[:3000], both[3000:]
    embeddings = write_embeddings(corpus, similarity=metric)
    manifest = build_index(embeddings, str(tmp_path / "index"), kind=kind, shards=2)
    recall = manifest.details["recall"]
    assert recall["value"] >= 0.98
    assert [one["effort"] for one in manifest.details["tried"]][-1] == manifest.details["effort"]

    index = open_index(str(tmp_path / "index"))
    assert index.effort == manifest.details["effort"]
    exact = exact_topk(queries, blocks_of(corpus), 10, similarity=metric)
    shares = [
        len({f"d{row:06d}" for row in rows} & {hit.id for hit in hits}) / 10
        for rows, hits in zip(exact.orders, index.search(queries, 10), strict=True)
    ]
    assert np.mean(shares) >= 0.95
    for hits in index.search(queries[:5], 10):
        assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)


@pytest.mark.parametrize(
    ("kind", "rescore", "in_memory", "on_disk"),
    [
        ("int8", "none", 64, 0),
        ("int8", "float32", 64, 256),
        ("binary", "int8", 8, 64),
        ("binary", "float32", 8, 256),
        ("pq", "int8", 18, 64),
    ],
)
def test_quantized_kinds_are_as_small_as_they_promise(
    write_embeddings: WriteEmbeddings,
    tmp_path: Path,
    kind: str,
    rescore: str,
    in_memory: int,
    on_disk: int,
) -> None:
    embeddings = write_embeddings(clustered(2000))
    manifest = build_index(embeddings, str(tmp_path / "i"), kind=kind, rescore=rescore)
    assert manifest.details["bytes_per_vector"] == pytest.approx(in_memory, abs=1)
    assert manifest.details["stored_bytes_per_vector"] == pytest.approx(on_disk, abs=1)


def test_float_rescoring_gives_exact_scores(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    corpus = clustered(2000)
    embeddings = write_embeddings(corpus, similarity="dot")
    flat, binary = str(tmp_path / "flat"), str(tmp_path / "binary")
    build_index(embeddings, flat)
    build_index(embeddings, binary, kind="binary", rescore="float32")
    exact = {hit.id: hit.score for hit in open_index(flat).search(corpus[:1], 2000)[0]}
    for hit in open_index(binary).search(corpus[:1], 10)[0]:
        assert hit.score == exact[hit.id]


def test_ranges_are_of_the_whole_corpus_whatever_the_shards(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    corpus = clustered(500)
    embeddings = write_embeddings(corpus, shard_rows=90, similarity="dot")
    found = []
    for shards in (1, 3):
        out = str(tmp_path / f"i{shards}")
        manifest = build_index(embeddings, out, kind="int8", shards=shards)
        low, high = manifest.details["ranges"]
        np.testing.assert_array_equal(np.float32(low), corpus.min(axis=0))
        np.testing.assert_array_equal(np.float32(high), corpus.max(axis=0))
        found.append(open_index(out).search(corpus[:20], 10))
    for one, three in zip(*found, strict=True):
        assert [hit.id for hit in one] == [hit.id for hit in three]
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in three], rel=1e-5)


def test_more_effort_never_finds_less(write_embeddings: WriteEmbeddings, tmp_path: Path) -> None:
    corpus = clustered(3000)
    build_index(write_embeddings(corpus), str(tmp_path / "index"), kind="ivf")
    index = open_index(str(tmp_path / "index"))
    exact = exact_topk(corpus[:50], blocks_of(corpus), 10)
    shares = []
    for effort in (1, 8, 64, 1000):
        index.effort = effort
        shares.append(
            sum(
                len({f"d{row:06d}" for row in rows} & {hit.id for hit in hits})
                for rows, hits in zip(exact.orders, index.search(corpus[:50], 10), strict=True)
            )
        )
    assert shares == sorted(shares)
    assert shares[-1] == 500
    assert shares[0] < 500


def test_a_build_below_its_recall_is_refused_or_warns(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).standard_normal((3000, 24)).astype(np.float32)
    embeddings = write_embeddings(noise)
    with pytest.raises(InputError, match=r"recall@10 is 0\.\d+ on 200 probes, --min-recall asks"):
        build_index(embeddings, str(tmp_path / "a"), kind="binary", rescore="none", min_recall=0.95)
    assert not (tmp_path / "a" / "manifest.json").exists()
    with pytest.warns(UserWarning, match="'binary' finds"):
        build_index(embeddings, str(tmp_path / "b"), kind="binary", rescore="none")
    assert read_manifest(tmp_path / "b").details["recall"]["value"] < 0.9
    easy = build_index(embeddings, str(tmp_path / "c"), kind="binary", min_recall=0.6)
    hard = build_index(embeddings, str(tmp_path / "d"), kind="binary", min_recall=0.9)
    assert easy.details["effort"] < hard.details["effort"]


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_small_corpora_and_zero_queries_are_no_fault(
    write_embeddings: WriteEmbeddings, tmp_path: Path, kind: str
) -> None:
    build_index(write_embeddings(clustered(3)), str(tmp_path / "index"), kind=kind)
    index = open_index(str(tmp_path / "index"))
    assert {hit.id for hit in index.search(clustered(1), 10)[0]} == {f"d00000{i}" for i in range(3)}
    assert all(hit.score == 0 for hit in index.search(np.zeros(64), 2)[0])


def test_unmeasured_recall_is_said_to_be_unknown(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    embeddings = write_embeddings(clustered(100))
    manifest = build_index(embeddings, str(tmp_path / "a"), kind="hnsw", probes=0)
    assert manifest.details["recall"]["value"] is None
    assert manifest.details["effort"] == 256
    with pytest.raises(InputError, match="was not measured"):
        build_index(embeddings, str(tmp_path / "b"), kind="hnsw", probes=0, min_recall=0.9)


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_damaged_files_are_named(
    write_embeddings: WriteEmbeddings, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "index"
    build_index(write_embeddings(clustered(60)), str(out), kind=kind, shards=2)
    for file in [*out.glob("shards/*"), *out.glob("vectors/*")]:
        data = file.read_bytes()
        file.write_bytes(data[:-3])
        with pytest.raises(ArtifactError, match=file.name):
            open_index(str(out))
        file.write_bytes(data)


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_remote_index_is_read_from_memory(
    write_embeddings: WriteEmbeddings, tmp_path: Path, kind: str
) -> None:
    corpus = clustered(60)
    out = f"memory://{tmp_path.name}/{kind}"
    build_index(write_embeddings(corpus), out, kind=kind)
    assert open_index(out).search(corpus[9], 1)[0][0].id == "d000009"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kind": "binary", "metric": "euclidean"}, "cannot rank by 'euclidean': cosine, dot"),
        ({"kind": "hnsw", "rescore": "int8"}, "nothing to rescore by"),
        ({"kind": "int8", "rescore": "half"}, "allowed are none, int8, float32"),
        ({"kind": "ivf", "min_recall": 1.5}, "above 0 and up to 1"),
    ],
)
def test_faults_are_told_in_one_line(
    write_embeddings: WriteEmbeddings, tmp_path: Path, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        build_index(write_embeddings(clustered(20)), str(tmp_path / "index"), **arguments)
