from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import (
    InformationRetrievalEvaluator as Oracle,
)
from sentence_transformers.util import semantic_search

from raybert.encoders import DenseEncoder
from raybert.errors import InputError
from raybert.evaluation import Cutoffs, InformationRetrievalEvaluator, read_qrels

Encoder = Callable[..., Any]
VECTORS = {"q": [1, 0], "d1": [1, 0], "d2": [2, 0], "d3": [0, 1], "d4": [1, 1], "nothing": [1, 1]}
CORPUS = {name: name for name in ("d3", "d4", "d2", "d1")}
CUTOFFS = Cutoffs((1,), (3,), (3,), (3,), (10,), (2, 100))


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
@pytest.mark.parametrize("sparse", [False, True])
def test_published_numbers_at_every_chunk_size(
    written_vectors: Encoder, chunk: int, sparse: bool
) -> None:
    vectors = VECTORS | ({"d2": [1, 0], "d4": [0.5, 1]} if sparse else {})
    evaluator = InformationRetrievalEvaluator(
        {"q1": "q", "q2": "nothing"},
        CORPUS,
        {"q1": {"d2", "d4", "d9"}, "q2": set()},
        cutoffs=CUTOFFS,
        corpus_chunk_size=chunk,
        name="toy",
    )
    metrics = evaluator(written_vectors(vectors, sparse=sparse))
    name = "dot" if sparse else "cosine"
    assert evaluator.primary_metric == f"toy_{name}_ndcg@3"
    assert metrics[f"toy_{name}_accuracy@1"] == 0
    assert metrics[f"toy_{name}_precision@3"] == pytest.approx(2 / 3)
    assert metrics[f"toy_{name}_recall@3"] == pytest.approx(2 / 3)
    assert metrics[f"toy_{name}_ndcg@3"] == pytest.approx(0.5307213, abs=1e-7)
    assert metrics[f"toy_{name}_mrr@10"] == 0.5
    assert metrics[f"toy_{name}_map@2"] == 0.25
    assert metrics[f"toy_{name}_map@100"] == pytest.approx(0.3888889, abs=1e-7)


def test_a_document_with_the_querys_id_is_not_skipped(written_vectors: Encoder) -> None:
    evaluator = InformationRetrievalEvaluator({"d1": "q"}, CORPUS, {"d1": {"d1"}})
    assert evaluator(written_vectors(VECTORS))["cosine_accuracy@1"] == 1


def test_queries_and_documents_go_by_their_own_methods(written_vectors: Encoder) -> None:
    encoder = written_vectors(VECTORS)
    InformationRetrievalEvaluator({"q1": "q"}, CORPUS, {"q1": {"d1"}}, corpus_chunk_size=3)(encoder)
    assert encoder.calls == [("query", 1), ("document", 3), ("document", 1)]


def test_several_similarities_and_truncation(written_vectors: Encoder) -> None:
    evaluator = InformationRetrievalEvaluator(
        {"q1": "q"}, CORPUS, {"q1": {"d2"}}, similarity_fn_names=["cosine", "dot"], truncate_dim=1
    )
    metrics = evaluator(written_vectors(VECTORS))
    assert metrics["dot_accuracy@1"] == 1
    assert metrics["cosine_accuracy@1"] == 0  # d1, d2 and d4 are one direction in one dimension
    assert evaluator.primary_metric == "dot_ndcg@10"


def test_graded_relevance_reaches_ndcg(written_vectors: Encoder) -> None:
    grades = {"q1": {"d1": 1.0, "d4": 3.0, "d3": 0.0}}
    graded = InformationRetrievalEvaluator({"q1": "q"}, CORPUS, grades)
    binary = InformationRetrievalEvaluator({"q1": "q"}, CORPUS, {"q1": {"d1", "d4"}})
    encoder = written_vectors(VECTORS)
    assert graded(encoder)["cosine_ndcg@10"] < binary(encoder)["cosine_ndcg@10"]


def test_sparse_encoder_adds_its_statistics(written_vectors: Encoder) -> None:
    evaluator = InformationRetrievalEvaluator({"q1": "q"}, CORPUS, {"q1": {"d1"}})
    metrics = evaluator(written_vectors(VECTORS, sparse=True))
    assert metrics["query_active_dims"] == 1
    assert metrics["query_sparsity_ratio"] == 0.5
    assert metrics["corpus_active_dims"] == pytest.approx(5 / 4)
    assert metrics["avg_flops"] == pytest.approx(3 / 4)
    assert "query_active_dims" not in evaluator(written_vectors(VECTORS))


class Memory:
    """Both libraries' view of one set of vectors."""

    similarity_fn_name = "cosine"
    similarity = staticmethod(lambda a, b: torch.nn.functional.normalize(a) @ b.T)

    def __init__(self, table: dict[str, Any]) -> None:
        self._table = table
        self.model_card_data = self

    def set_evaluation_metrics(self, *_: Any) -> None:
        """The oracle writes a model card."""

    def encode(self, inputs: Any, *_: Any, **options: Any) -> Any:
        rows = np.stack([self._table[text] for text in inputs])
        return torch.from_numpy(rows) if options.get("convert_to_tensor") else rows

    encode_query = encode_document = encode


@given(seed=st.integers(0, 9999), documents=st.integers(2, 40), chunk=st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_equals_the_oracle_on_random_vectors(seed: int, documents: int, chunk: int) -> None:
    draw = np.random.default_rng(seed)
    corpus = {f"d{n:02d}": f"d{n:02d}" for n in range(documents)}
    queries = {f"q{n}": f"q{n}" for n in range(6)}
    table = {name: draw.standard_normal(5).astype(np.float32) for name in (*corpus, *queries)}
    table["d00"] = table["d01"]
    relevant = {query: set(draw.choice(list(corpus), 2).tolist()) for query in queries}
    ours = InformationRetrievalEvaluator(queries, corpus, relevant, corpus_chunk_size=chunk)
    theirs = Oracle(
        queries,
        corpus,
        relevant,
        corpus_chunk_size=chunk,
        score_functions={
            "cosine": lambda a, b: torch.nn.functional.cosine_similarity(
                a[:, None], b[None], dim=-1
            )
        },
        write_csv=False,
    )
    encoder = Memory(table)
    expected = {key: value for key, value in theirs(encoder).items() if "@" in key}
    assert ours(encoder) == pytest.approx(expected, abs=1e-6)


def test_equals_the_oracle_on_the_bundled_corpus(root: Path, minilm: Path) -> None:
    """A part of the bundled corpus, so that both encoders take seconds and not minutes."""
    qrels = read_qrels(str(root / "data/demo/qrels.tsv"))
    chosen = list(qrels)[:60]
    documents = pq.read_table(root / "data/demo/docs.parquet").to_pylist()
    wanted = {document for query in chosen for document in qrels[query]}
    others = [row for row in documents if row["id"] not in wanted][::20]
    corpus = {
        row["id"]: row["text"]
        for row in (*(row for row in documents if row["id"] in wanted), *others)
    }
    table = pq.read_table(root / "data/demo/queries.parquet").to_pylist()
    queries = {row["id"]: row["text"] for row in table if row["id"] in set(chosen)}
    relevant = {query: set(qrels[query]) for query in queries}

    evaluator = InformationRetrievalEvaluator(queries, corpus, qrels)
    ours = evaluator(DenseEncoder(minilm, device="cpu"))

    oracle = SentenceTransformer(str(minilm), device="cpu")
    ids = sorted(corpus)
    found = semantic_search(
        oracle.encode_query(list(queries.values()), convert_to_tensor=True),
        oracle.encode_document([corpus[i] for i in ids], convert_to_tensor=True),
        top_k=10,
    )
    gains = [
        sum(
            1 / np.log2(rank + 1)
            for rank, hit in enumerate(hits, start=1)
            if ids[int(hit["corpus_id"])] in relevant[query]
        )
        / sum(1 / np.log2(rank + 1) for rank in range(1, min(10, len(relevant[query])) + 1))
        for query, hits in zip(queries, found, strict=True)
    ]
    assert ours["cosine_ndcg@10"] == pytest.approx(float(np.mean(gains)), abs=1e-6)
    assert 0.5 < ours["cosine_ndcg@10"] < 1


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(InputError, match="no query has a relevant document"):
        InformationRetrievalEvaluator({"q": "q"}, {"d": "d"}, {"q": {"d": 0}})
    with pytest.raises(InputError, match="corpus is empty"):
        InformationRetrievalEvaluator({"q": "q"}, {}, {"q": {"d"}})
