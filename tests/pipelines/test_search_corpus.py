from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import ir_measures
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
)

from raybert.artifacts import (
    Folder,
    Input,
    Manifest,
    read_manifest,
    write_manifest,
    write_table,
)
from raybert.encoders import CrossEncoder, DenseEncoder, SparseEncoder
from raybert.errors import ArtifactError, InputError, ModelError
from raybert.evaluation import read_run
from raybert.index import build_index, build_text_index, open_index

Load = Callable[[str], ModuleType]


@pytest.fixture(scope="session")
def index(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An index of the small corpus with its texts."""
    out = str(tmp_path_factory.mktemp("indexes") / "cosine")
    build_index(str(demo.embeddings), out, documents=[pq.read_table(demo.docs)], shards=2)
    return out


@pytest.fixture(scope="session")
def reranker(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small random cross-encoder."""
    folder = str(tmp_path_factory.mktemp("models") / "cross")
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def settings(job: ModuleType, demo: Any, index: Any, out: Path, **more: Any) -> Any:
    given: dict[str, Any] = {"queries": [str(demo.queries)], "top_k": 20, "device": "cpu", **more}
    indexes = index if isinstance(index, list) else [index]
    return job.SearchCorpus(index=indexes, out=str(out), tracking_uri="none", **given)


def test_run_holds_the_encoders_own_ranking(
    load_job: Load, demo: Any, index: str, minilm: Path, tmp_path: Path
) -> None:
    job = load_job("search_corpus")
    job.main(settings(job, demo, index, tmp_path / "run"))
    rankings = read_run(str(tmp_path / "run"))
    queries = pq.read_table(demo.queries).to_pylist()
    assert [ranking.query_id for ranking in rankings] == [row["id"] for row in queries]

    docs = pq.read_table(demo.docs).sort_by("id").to_pylist()
    encoder = DenseEncoder(minilm, device="cpu")
    scores = encoder.similarity(
        encoder.encode_query([row["text"] for row in queries]),
        encoder.encode_document([row["text"] for row in docs]),
    ).numpy()
    for ranking, row in zip(rankings, scores, strict=True):
        order = np.argsort(-row, kind="stable")[:20]
        assert [hit.id for hit in ranking] == [docs[at]["id"] for at in order]
        np.testing.assert_allclose([hit.score for hit in ranking], row[order], atol=1e-5)

    trec = list(ir_measures.read_trec_run(str(tmp_path / "run" / "run.trec")))
    assert len(trec) == 20 * len(queries)
    kinds = [item.kind for item in read_manifest(tmp_path / "run", kind="run").inputs]
    assert kinds == ["queries", "index"]


def test_second_run_does_nothing_and_says_so(
    load_job: Load, demo: Any, index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = load_job("search_corpus")
    job.main(settings(job, demo, index, tmp_path / "run"))
    job.main(settings(job, demo, index, tmp_path / "run"))
    assert "nothing to do: all 40 queries are answered already" in capsys.readouterr().out
    with pytest.raises(ArtifactError, match="something else"):
        job.main(settings(job, demo, index, tmp_path / "run", top_k=5))


def test_several_indexes_are_joined_by_reciprocal_rank(
    load_job: Load, demo: Any, index: str, tmp_path: Path
) -> None:
    job = load_job("search_corpus")
    other = str(tmp_path / "manhattan")
    build_index(str(demo.embeddings), other, metric="manhattan")
    runs = {}
    for name, indexes in {"a": [index], "b": [other], "both": [index, other]}.items():
        job.main(settings(job, demo, indexes, tmp_path / name))
        runs[name] = read_run(str(tmp_path / name))
    table = pq.read_table(tmp_path / "both" / "ranking.parquet").to_pylist()
    assert {place["leg"] for place in table[0]["legs"]} == {index, other}
    for one, two, both in zip(runs["a"], runs["b"], runs["both"], strict=True):
        expected: dict[str, float] = {}
        for leg in (one, two):
            for rank, hit in enumerate(leg, start=1):
                expected[hit.id] = expected.get(hit.id, 0) + 1 / (60 + rank)
        assert len(both.hits) == 20
        assert {hit.id: hit.score for hit in both} == pytest.approx(
            {hit.id: expected[hit.id] for hit in both}
        )
        best = sorted(expected, key=lambda item: (-expected[item], item))
        assert both.hits[0].id == best[0]


def test_a_bm25_leg_weights_and_a_filter(
    load_job: Load, demo: Any, index: str, tmp_path: Path
) -> None:
    job, words = load_job("search_corpus"), str(tmp_path / "bm25")
    corpus = Input(kind="corpus", uri=str(demo.docs), fingerprint="c")
    build_text_index([pq.read_table(demo.docs)], words, corpus=corpus)
    for name, indexes, weights in (
        ("dense", [index], None),
        ("joined", [index, words], [1.0, 0.0]),
        ("words", [words], None),
    ):
        job.main(settings(job, demo, indexes, tmp_path / name, weights=weights, fusion="weighted"))
    dense, joined, alone = (read_run(str(tmp_path / name)) for name in ("dense", "joined", "words"))
    for one, two, three in zip(dense, joined, alone, strict=True):
        # the last of a leg counts 0, as do those that only the other leg, of weight 0, found
        assert [hit.id for hit in one][:19] == [hit.id for hit in two][:19]
        assert [hit.score for hit in three] == sorted((h.score for h in three), reverse=True)
    table = pq.read_table(tmp_path / "joined" / "ranking.parquet").to_pylist()
    assert {place["leg"] for row in table for place in row["legs"]} == {index, words}
    title = pq.read_table(demo.docs)["title"][3].as_py()
    condition = json.dumps({"title": title})
    job.main(settings(job, demo, [index, words], tmp_path / "few", filter=condition))
    found = {hit.id for ranking in read_run(str(tmp_path / "few")) for hit in ranking}
    titles = {row["title"] for row in open_index(index).documents.take(sorted(found))}
    assert titles == {title}
    for more, says in (
        ({"filter": "{"}, "no JSON"),
        ({"filter": '{"year": 1}'}, "no column 'year'"),
        ({"weights": [1.0, 2.0]}, "--weights: 2 for 1 index"),
    ):
        with pytest.raises(InputError, match=says):
            job.main(settings(job, demo, index, tmp_path / "fails", **more))


def test_a_sparse_leg_ranks_as_its_encoder_does(
    load_job: Load, demo: Any, minilm: Path, tmp_path: Path
) -> None:
    model, embeddings = tmp_path / "splade", Folder(tmp_path / "embeddings")
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertForMaskedLM(config).save_pretrained(model)
    tokenizer.save_pretrained(model)
    encoder = SparseEncoder(model, device="cpu", max_active_dims=64)
    docs = pq.read_table(demo.docs).slice(0, 60)
    rows, _ = encoder.encode_tokens(encoder.pre(docs["text"].to_pylist(), task="document"))
    starts = pa.array(rows.indptr.astype(np.int32))
    columns = {
        "id": docs["id"].combine_chunks(),
        "terms": pa.ListArray.from_arrays(starts, rows.indices.astype(np.int32)),
        "weights": pa.ListArray.from_arrays(starts, rows.data),
    }
    shard = write_table(embeddings, "shards/0.parquet", pa.table(columns))
    pinned = Input(kind="model", uri=str(model), fingerprint=encoder.fingerprint)
    details = {"dimension": rows.shape[1], "similarity_fn_name": "dot"}
    manifest = Manifest(kind="embeddings", inputs=(pinned,), shards=(shard,), details=details)
    write_manifest(embeddings, manifest)
    build_index(embeddings.uri, str(tmp_path / "index"), kind="inverted", shards=2)

    job = load_job("search_corpus")
    job.main(settings(job, demo, str(tmp_path / "index"), tmp_path / "run", top_k=10))
    queries = pq.read_table(demo.queries)["text"].to_pylist()
    asked = SparseEncoder(model, device="cpu").encode_query(queries)
    scores = encoder.similarity(asked, encoder.encode_document(docs["text"].to_pylist()))
    for ranking, row in zip(read_run(str(tmp_path / "run")), scores.numpy(), strict=True):
        best = np.sort(row)[::-1][:10]
        np.testing.assert_allclose([hit.score for hit in ranking], best, rtol=1e-4)


def test_reranking_orders_the_hits_by_the_cross_encoder(
    load_job: Load,
    demo: Any,
    index: str,
    reranker: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = load_job("search_corpus")
    job.main(settings(job, demo, index, tmp_path / "plain", top_k=7))
    job.main(settings(job, demo, index, tmp_path / "run", top_k=7, rerank_model=reranker))
    shown = capsys.readouterr().err
    assert len(re.findall(r"^search (\d+) of \1 queries  [\d,]+ queries/s$", shown, re.M)) == 2
    assert re.search(r"^rerank ([\d,]+) of \1 pairs  [\d,]+ pairs/s$", shown, re.M)
    plain, reranked = read_run(str(tmp_path / "plain")), read_run(str(tmp_path / "run"))
    texts = {row["id"]: row["text"] for row in pq.read_table(demo.queries).to_pylist()}
    documents = open_index(index).documents
    model = CrossEncoder(reranker, device="cpu")
    for before, after in list(zip(plain, reranked, strict=True))[:5]:
        assert {hit.id for hit in before} == {hit.id for hit in after}
        found = documents.take([hit.id for hit in after])
        scores = model.predict([(texts[after.query_id], document["text"]) for document in found])
        np.testing.assert_allclose([hit.score for hit in after], scores, atol=1e-6)
        assert list(scores) == sorted(scores, reverse=True)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv"])
def test_queries_may_be_of_any_format(
    load_job: Load, demo: Any, index: str, tmp_path: Path, ending: str
) -> None:
    job = load_job("search_corpus")
    file = tmp_path / f"queries.{ending}"
    mark = "\t" if ending == "tsv" else ","
    lines = [f"id{mark}text", f"q1{mark}what is a lambda", f"q2{mark}how do I copy a list"]
    if ending == "jsonl":
        lines = [json.dumps({"id": "q1", "text": "what is a lambda"})]
    file.write_text("\n".join(lines) + "\n")
    job.main(settings(job, demo, index, tmp_path / "run", queries=[str(file)], top_k=3))
    assert read_run(str(tmp_path / "run"))[0].query_id == "q1"


def test_faults_are_refused(
    load_job: Load, demo: Any, index: str, reranker: str, minilm: Path, tmp_path: Path
) -> None:
    job = load_job("search_corpus")

    def fails(kind: type[Exception], says: str, **more: Any) -> None:
        with pytest.raises(kind, match=says):
            job.main(settings(job, demo, more.pop("index", index), tmp_path / "run", **more))
        assert not (tmp_path / "run").exists()

    fails(ArtifactError, "the index was made by the model", model=reranker)
    fails(ModelError, "no cross-encoder with one label", rerank_model=str(minilm))
    fails(ArtifactError, "no such artifact", index=str(tmp_path / "none"))
    fails(InputError, "no column 'body'", text_column="body")
    twice = tmp_path / "twice.csv"
    twice.write_text("id,text\nq1,one\nq1,two\n")
    fails(InputError, "duplicate id", queries=[str(twice)])
    without = str(tmp_path / "without")
    build_index(str(demo.embeddings), without)
    fails(ArtifactError, "keeps no column 'text'", index=without, rerank_model=reranker)
