from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from raybert.artifacts import lineage, read_manifest
from raybert.corpus.joined import read_vectors
from raybert.errors import ArtifactError, InputError
from raybert.evaluation import read_qrels
from raybert.index.source import Embeddings

Load = Callable[[str], ModuleType]
pytestmark = pytest.mark.usefixtures("ray_session")


def settings(job: ModuleType, demo: Any, queries: str, out: Path, **more: Any) -> Any:
    given: dict[str, Any] = {"pairs": str(demo.qrels), "workers": 1, **more}
    return job.MineHardNegatives(
        queries=queries, corpus=str(demo.embeddings), out=str(out), tracking_uri="none", **given
    )


def test_negatives_are_near_and_no_answers_and_the_file_loads_as_it_is(
    load_job: Load, demo: Any, query_embeddings: str, tmp_path: Path, capsys: Any
) -> None:
    job = load_job("mine_hard_negatives")
    rules = {"num_negatives": 3, "relative_margin": 0.05}
    given = settings(job, demo, query_embeddings, tmp_path / "out", rules=rules)
    job.main(given)
    dataset = load_dataset("parquet", data_dir=str(tmp_path / "out" / "shards"), split="train")
    assert dataset.column_names[:5] == ["anchor", "positive", *(f"negative_{n}" for n in (1, 2, 3))]
    known, texts = read_qrels(str(demo.qrels)), dict(texts_of(demo.docs))
    queries = Embeddings.open(query_embeddings)
    anchors = dict(zip(texts_of(demo.queries), read_vectors(queries), strict=True))
    corpus = read_vectors(Embeddings.open(str(demo.embeddings)))
    ids = list(texts)
    assert len(dataset) > 20
    for row in dataset:
        assert row["positive_id"] in known[row["anchor_id"]]
        assert texts[row["positive_id"]] == row["positive"]
        assert not set(row["negative_ids"]) & set(known[row["anchor_id"]])
        vector = anchors[(row["anchor_id"], row["anchor"])]
        scores = corpus @ vector / np.linalg.norm(corpus, axis=1) / np.linalg.norm(vector)
        allowed = [
            identifier
            for identifier, score in sorted(zip(ids, scores, strict=True), key=lambda one: -one[1])
            if score <= row["positive_score"] * 0.95 and identifier not in known[row["anchor_id"]]
        ]
        assert row["negative_ids"] == allowed[:3]
        assert all("(relative_margin)" in reason for reason in row["kept_because"])
    details = read_manifest(str(tmp_path / "out")).details
    assert details["dropped"]["positive"] >= len(dataset) // 2
    kinds = [node.input.kind for node in lineage(str(tmp_path / "out")).inputs]
    assert kinds == ["pairs", "embeddings", "embeddings", "model"]
    assert not (tmp_path / "out" / "progress").exists()
    capsys.readouterr()
    job.main(given)
    assert "nothing to do" in capsys.readouterr().out
    other = settings(job, demo, query_embeddings, tmp_path / "out", rules={"num_negatives": 1})
    with pytest.raises(ArtifactError, match="other settings or inputs"):
        job.main(other)


def texts_of(path: Path) -> list[tuple[str, str]]:
    table = pq.read_table(path)
    return list(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))


def test_a_pair_with_an_unknown_id_is_named(
    load_job: Load, demo: Any, query_embeddings: str, tmp_path: Path
) -> None:
    job = load_job("mine_hard_negatives")
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(Path(demo.qrels).read_text() + "\nq000\t0\tnowhere\t1\n")
    with pytest.raises(InputError, match=r"pairs\.tsv: id 'nowhere' is not in"):
        job.main(settings(job, demo, query_embeddings, tmp_path / "out", pairs=str(pairs)))


def test_what_words_find_is_mined_beside_what_vectors_find(
    load_job: Load, demo: Any, query_embeddings: str, tmp_path: Path
) -> None:
    job, index, run = load_job("mine_hard_negatives"), tmp_path / "words", tmp_path / "bm25"
    common = {"tracking_uri": "none"}
    build = load_job("build_index")
    build.main(build.BuildIndex(corpus=str(demo.docs), kind="bm25", out=str(index), **common))
    search = load_job("search_corpus")
    asked = {"queries": str(demo.queries), "index": str(index), "top_k": 20}
    search.main(search.SearchCorpus(out=str(run), **asked, **common))

    def mine(name: str, **more: Any) -> list[dict[str, Any]]:
        rules = {"num_negatives": 4}
        given = settings(job, demo, query_embeddings, tmp_path / name, rules=rules, **more)
        job.main(given)
        return list(pq.read_table(tmp_path / name / "shards" / "00000.parquet").to_pylist())

    alone, both = mine("alone"), mine("both", runs=str(run))
    looked_at = 6  # four wanted, and the positive, in either list
    ranked = {
        (r["query_id"], r["id"]): r["rank"] for r in read_table_of(run) if r["rank"] <= looked_at
    }
    known = read_qrels(str(demo.qrels))
    for before, row in zip(alone, both, strict=True):
        for identifier, reason in zip(row["negative_ids"], row["kept_because"], strict=True):
            assert identifier not in known[row["anchor_id"]]
            at = ranked.get((row["anchor_id"], identifier))
            assert (f"bm25 {at}" in reason) == (at is not None)
            assert ("dense" in reason) or at is not None
        assert before["anchor_id"] == row["anchor_id"]
    only = [reason for row in both for reason in row["kept_because"] if "dense" not in reason]
    assert len(only) > len(both) // 2, "words find what vectors do not"
    inputs = [node.input.kind for node in lineage(str(tmp_path / "both")).inputs]
    assert inputs == ["pairs", "embeddings", "embeddings", "model", "run"]

    small = tmp_path / "small"
    asked["index"] = str(tmp_path / "few")
    few = tmp_path / "few.parquet"
    pq.write_table(pa.table({"id": ["else"], "text": ["what is the best way to do this"]}), few)
    build.main(build.BuildIndex(corpus=str(few), kind="bm25", out=asked["index"], **common))
    search.main(search.SearchCorpus(out=str(small), **asked, **common))
    with pytest.raises(InputError, match="small: ranks id 'else', which is not in the corpus"):
        mine("wrong", runs=str(small))


def read_table_of(run: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(run / "ranking.parquet").to_pylist())


def test_pairs_of_texts_are_encoded_first_and_once(
    load_job: Load, minilm: Path, tmp_path: Path, capsys: Any
) -> None:
    """Eight anchors, of which one stands twice, with short answers; the corpus is the answers."""
    job = load_job("mine_hard_negatives")
    names = ["cat", "dog", "tax", "king", "rain", "bread", "train"]
    rows = [(f"What is a {name}?", f"A {name} is what we call a {name}.") for name in names]
    rows += [(rows[0][0], "Cats are small animals that purr."), (rows[1][0], rows[1][1])]
    anchors, positives = zip(*rows, strict=True)
    pq.write_table(pa.table({"ask": anchors, "tell": positives}), tmp_path / "pairs.parquet")
    given = job.MineHardNegatives(
        pairs=str(tmp_path / "pairs.parquet"),
        anchor_column="ask",
        positive_column="tell",
        model=str(minilm),
        rules={"num_negatives": 2},
        output_format="triplet",
        out=str(tmp_path / "out"),
        tracking_uri="none",
        workers=1,
        device="cpu",
    )
    job.main(given)
    mined = pq.read_table(tmp_path / "out" / "shards" / "00000.parquet").to_pylist()
    assert len(mined) == 8 * 2, "eight different pairs, two negatives each"
    for row in mined:
        own = {positive for anchor, positive in rows if anchor == row["anchor"]}
        assert row["positive"] in own
        assert row["negative"] not in own
    assert "encoding 8 texts of corpus" in capsys.readouterr().out
    sides = tmp_path / "out" / "embeddings"
    kept = {side: read_manifest(str(sides / side)) for side in ("queries", "corpus")}
    assert [kept[side].rows for side in ("queries", "corpus")] == [7, 8]
    job.main(given)
    said = capsys.readouterr().out
    assert "encoding" not in said
    assert "nothing to do" in said
    with pytest.raises(InputError, match="no finished embeddings there; to encode texts give"):
        job.main(given.model_copy(update={"model": None}))
