from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raybert.artifacts import (
    Folder,
    Input,
    Manifest,
    read_manifest,
    write_manifest,
    write_table,
)
from raybert.errors import ArtifactError, InputError
from raybert.index import build_index, open_index
from raybert.vectors import SIMILARITIES

WriteEmbeddings = Callable[..., str]


def random(rows: int, width: int = 16, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def brute_force(queries: Any, corpus: Any, ids: list[str], k: int, name: str) -> list[list[str]]:
    scores = SIMILARITIES[name].matrix(queries.astype("f8"), corpus.astype("f8"))
    rounded = scores.float().tolist()
    return [[i for _, i in sorted(zip([-s for s in row], ids, strict=True))[:k]] for row in rounded]


@pytest.mark.parametrize("metric", SIMILARITIES)
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_flat_equals_brute_force_with_ties_by_id(
    write_embeddings: WriteEmbeddings, tmp_path: Path, metric: str, shards: int
) -> None:
    draw = np.random.default_rng(7)
    corpus = random(600)
    corpus[draw.integers(0, 600, 200)] = corpus[3]  # one vector 200 times: ties past any k
    ids = [f"t{number}" for number in draw.permutation(600)]
    embeddings = write_embeddings(corpus, ids, shard_rows=130, similarity=metric)
    build_index(embeddings, str(tmp_path / "index"), shards=shards)
    queries = np.concatenate([corpus[:12], random(20, seed=2)])
    hits = open_index(str(tmp_path / "index")).search(queries, 15)
    assert [[hit.id for hit in row] for row in hits] == brute_force(
        queries, corpus, ids, 15, metric
    )


def test_flat_equals_one_faiss_flat_index(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    corpus, queries = random(5000, 48), random(50, 48, seed=1)
    embeddings = write_embeddings(corpus, similarity="dot")
    build_index(embeddings, str(tmp_path / "index"), shards=3)
    index = open_index(str(tmp_path / "index"))
    engine = faiss.IndexFlatIP(48)
    engine.add(corpus)
    scores, rows = engine.search(queries, 20)
    hits = index.search(queries, 20)
    assert [[hit.id for hit in row] for row in hits] == [[f"d{i:06d}" for i in r] for r in rows]
    np.testing.assert_allclose([[hit.score for hit in row] for row in hits], scores, atol=1e-4)
    # a score has nothing to do with what else is asked
    assert index.search(queries[4], 20)[0] == hits[4]


@given(seed=st.integers(0, 999), shards=st.integers(1, 4), k=st.integers(1, 50))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_sharded_equals_unsharded(
    write_embeddings: WriteEmbeddings, tmp_path: Path, seed: int, shards: int, k: int
) -> None:
    corpus = np.random.default_rng(seed).integers(-1, 2, (40, 4)).astype(np.float32)
    embeddings = write_embeddings(corpus, name=f"e{seed}", similarity="euclidean")
    found = []
    for count in (1, shards):
        out = str(tmp_path / f"i{seed}-{count}")
        build_index(embeddings, out, shards=count, probes=0)
        found.append(open_index(out).search(corpus[:7], k))
    assert found[0] == found[1]
    assert all(len(hits) == min(k, 40) for hits in found[0])


def test_zero_query_scores_zero_everywhere_and_ties_go_by_id(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    corpus = random(100)
    corpus[5] = 0
    manifest = build_index(write_embeddings(corpus), str(tmp_path / "index"))
    assert manifest.details["zero_vectors"] == 1
    hits = open_index(str(tmp_path / "index")).search(np.zeros(16), 3)[0]
    assert [(hit.id, hit.score) for hit in hits] == [(f"d00000{i}", 0.0) for i in range(3)]


@pytest.mark.parametrize("metric", ["dot", "euclidean", "manhattan"])
def test_queries_are_scaled_as_the_documents_were(
    write_embeddings: WriteEmbeddings, tmp_path: Path, metric: str
) -> None:
    corpus = random(100)
    unit = corpus / np.linalg.norm(corpus, axis=1, keepdims=True)
    embeddings = write_embeddings(unit, similarity=metric, normalize=True)
    manifest = build_index(embeddings, str(tmp_path / "index"))
    assert manifest.details["recall"]["value"] == 1.0
    index = open_index(str(tmp_path / "index"))
    (long,), (short,) = index.search(corpus[:1] * 9, 5), index.search(unit[:1], 5)
    assert [hit.id for hit in long] == [hit.id for hit in short]
    assert [hit.score for hit in long] == pytest.approx([hit.score for hit in short], abs=1e-6)


def test_manifest_says_what_the_index_is(write_embeddings: WriteEmbeddings, tmp_path: Path) -> None:
    embeddings = write_embeddings(random(300), similarity="dot")
    manifest = build_index(embeddings, str(tmp_path / "index"), shards=2, mlflow_run="r1")
    assert manifest == read_manifest(tmp_path / "index", kind="index")
    assert manifest.rows == 300
    assert manifest.mlflow_run == "r1"
    assert manifest.input("model").fingerprint == "m1"
    assert manifest.input("embeddings").fingerprint == read_manifest(embeddings).fingerprint
    details = manifest.details
    assert (details["kind"], details["metric"], details["dimension"]) == ("flat", "dot", 16)
    assert details["recall"]["value"] == 1.0
    assert details["recall"]["probes"] == 200
    assert details["bytes_per_vector"] == pytest.approx(64, abs=1)
    assert details["build_seconds"] > 0


def test_documents_come_back_by_id_in_the_order_asked(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    ids = [f"é{i}" for i in range(50)]
    tables = [
        pa.table({"text": [f"text {i}" for i in part], "id": [f"é{i}" for i in part], "n": part})
        for part in (list(range(40, 60)), list(range(40)))
    ]
    embeddings = write_embeddings(random(50), ids, shard_rows=7)
    build_index(embeddings, str(tmp_path / "index"), shards=3, documents=tables)
    index = open_index(str(tmp_path / "index"))
    assert index.documents.take(["é49", "é0", "é7"]) == [
        {"id": f"é{i}", "text": f"text {i}", "n": i} for i in (49, 0, 7)
    ]
    assert index.documents.columns == ["id", "text", "n"]
    assert "é7" in index.documents
    assert "é55" not in index.documents
    with pytest.raises(InputError, match="'é55' is not in the index"):
        index.documents.take(["é55"])


def test_documents_of_several_files_may_lack_columns_but_not_change_type(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    embeddings = write_embeddings(random(3), ["a", "b", "c"])
    tables = [
        pa.table({"id": ["a"], "title": [None], "year": [1]}),
        pa.table({"id": ["b"], "title": ["B"]}),
        pa.table({"id": ["c"], "year": [2.5], "title": ["C"]}),
    ]
    build_index(embeddings, str(tmp_path / "index"), documents=tables)
    taken = open_index(str(tmp_path / "index")).documents.take(["a", "b", "c"])
    assert taken == [
        {"id": "a", "title": None, "year": 1.0},
        {"id": "b", "title": "B", "year": None},
        {"id": "c", "title": "C", "year": 2.5},
    ]


def test_without_documents_ids_are_all_there_is(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    build_index(write_embeddings(random(5)), str(tmp_path / "index"))
    index = open_index(str(tmp_path / "index"))
    assert index.documents.take(["d000003"]) == [{"id": "d000003"}]
    assert len(index) == len(index.documents) == 5


def test_finished_index_is_left_alone(write_embeddings: WriteEmbeddings, tmp_path: Path) -> None:
    embeddings, out = write_embeddings(random(30)), tmp_path / "index"
    first = build_index(embeddings, str(out))
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    assert build_index(embeddings, str(out)) == first
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before
    with pytest.raises(ArtifactError, match="other settings or inputs"):
        build_index(embeddings, str(out), shards=2)
    with pytest.raises(ArtifactError, match="holds a finished embeddings"):
        build_index(embeddings, embeddings)


def test_unfinished_build_starts_again_cleanly(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    embeddings, out = write_embeddings(random(30)), Folder(tmp_path / "index")
    clean = build_index(embeddings, str(tmp_path / "clean"))
    out.write_bytes("shards/00000.faiss", b"half of it")
    out.write_bytes("shards/00007.faiss", b"of a build with more shards")
    with pytest.raises(ArtifactError, match="unfinished"):
        open_index(out.uri)
    assert build_index(embeddings, out.uri).fingerprint == clean.fingerprint
    assert out.names("shards") == ["00000.faiss"]


def test_killed_build_starts_again_and_ends_the_same(
    write_embeddings: WriteEmbeddings, tmp_path: Path, root: Path
) -> None:
    embeddings, out = write_embeddings(random(20_000, 64), shard_rows=5000), tmp_path / "index"
    clean = build_index(embeddings, str(tmp_path / "clean"), shards=80, probes=20)
    script = f"from raybert.index import build_index; build_index({embeddings!r}, {str(out)!r}, "
    with subprocess.Popen(
        [sys.executable, "-c", f"{script}shards=80, probes=20)"],
        env={**os.environ, "PYTHONPATH": str(root / "platform")},
    ) as process:
        while len(list(out.glob("shards/*.faiss"))) < 3 and process.poll() is None:
            time.sleep(0.001)
        process.kill()
    assert not (out / "manifest.json").exists()
    again = build_index(embeddings, str(out), shards=80, probes=20)
    assert again.fingerprint == clean.fingerprint
    assert open_index(str(out)).search(random(1, 64), 5)


@pytest.mark.parametrize("file", ["shards/00001.faiss", "documents/00000.arrow"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damaged_file_is_named(
    write_embeddings: WriteEmbeddings, tmp_path: Path, file: str, harm: str
) -> None:
    out = tmp_path / "index"
    build_index(write_embeddings(random(30)), str(out), shards=2)
    data = bytearray((out / file).read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "remove":
        (out / file).unlink()
    else:
        (out / file).write_bytes(data if harm == "flip" else data[:-9])
    with pytest.raises(ArtifactError, match=file):
        open_index(str(out))


def test_embeddings_of_another_model_are_refused(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    embeddings = write_embeddings(random(3), model="m2")
    with pytest.raises(ArtifactError, match=r"\(m2\); the model asked for is m1"):
        build_index(embeddings, str(tmp_path / "index"), model_fingerprint="m1")


def test_non_finite_vector_is_refused_by_id(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    corpus = random(20)
    corpus[13, 2] = np.nan
    with pytest.raises(InputError, match="'d000013'"):
        build_index(write_embeddings(corpus), str(tmp_path / "index"))
    assert not (tmp_path / "index" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kind": "lsh"}, "index kind 'lsh': allowed are flat"),
        ({"metric": "cos"}, "metric 'cos': allowed are cosine"),
        ({"shards": 0}, "1 to 20"),
        ({"shards": 21}, "1 to 20"),
        ({"documents": [pa.table({"id": ["d000001"]})]}, "19 row.* the first is of id 'd000000'"),
        ({"documents": [pa.table({"key": ["d000001"]})]}, "need a column 'id'; there are key"),
    ],
)
def test_faults_are_told_in_one_line(
    write_embeddings: WriteEmbeddings, tmp_path: Path, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        build_index(write_embeddings(random(20)), str(tmp_path / "index"), **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shards", [1, 2])
def test_an_id_in_two_rows_is_refused(
    write_embeddings: WriteEmbeddings, tmp_path: Path, shards: int
) -> None:
    embeddings = write_embeddings(random(4), ["a", "b", "c", "a"])
    with pytest.raises(InputError, match="id 'a' stands in two rows"):
        build_index(embeddings, str(tmp_path / "index"), shards=shards)


def test_no_rows_and_sparse_rows_are_refused(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    sparse = Folder(tmp_path / "sparse")
    table = pa.table({"id": ["a"], "terms": [[3]], "weights": [[0.5]]})
    model = Input(kind="model", uri="m", fingerprint="m1")
    shard = write_table(sparse, "shards/0.parquet", table)
    write_manifest(sparse, Manifest(kind="embeddings", inputs=(model,), shards=(shard,)))
    with pytest.raises(InputError, match=r"shards/0.parquet: holds sparse vectors"):
        build_index(sparse.uri, str(tmp_path / "index"))
    with pytest.raises(InputError, match="no row"):
        build_index(write_embeddings(np.zeros((0, 4)), name="none"), str(tmp_path / "index"))


@pytest.mark.parametrize(
    ("queries", "top_k", "says"),
    [
        (np.ones((2, 5)), 3, "16 wide, of the model models/m"),
        (np.full((2, 16), np.inf), 3, "query 0 holds NaN or infinite"),
        (np.ones(16), 0, "at least 1"),
    ],
)
def test_bad_queries_are_refused(
    write_embeddings: WriteEmbeddings, tmp_path: Path, queries: Any, top_k: int, says: str
) -> None:
    build_index(write_embeddings(random(20)), str(tmp_path / "index"))
    with pytest.raises(InputError, match=says):
        open_index(str(tmp_path / "index")).search(queries, top_k)


def test_top_k_past_the_corpus_gives_all_of_it(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    build_index(write_embeddings(random(20)), str(tmp_path / "index"), shards=3)
    index = open_index(str(tmp_path / "index"))
    assert len(index.search(random(1), 1000)[0]) == 20
    assert index.search(np.zeros((0, 16)), 5) == []


def test_remote_index_is_read_from_memory(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    corpus = random(50)
    out = f"memory://{tmp_path.name}/index"
    build_index(write_embeddings(corpus), out, shards=2)
    index = open_index(out)
    assert index.search(corpus[9], 1)[0][0].id == "d000009"
    assert index.documents.take(["d000009"]) == [{"id": "d000009"}]
