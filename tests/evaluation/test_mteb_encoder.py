"""MTEB runs our encoder on a task made of the bundled corpus, and finds our own numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raybert import DenseEncoder
from raybert.evaluation import InformationRetrievalEvaluator
from raybert.evaluation.mteb_encoder import MtebEncoder

mteb = pytest.importorskip("mteb")


@pytest.fixture(scope="module")
def judged(root: Path) -> tuple[dict[str, str], dict[str, str], dict[str, set[str]]]:
    """Queries, documents and answers: a part of the bundled corpus."""
    folder = root / "data" / "demo"
    documents = pq.read_table(folder / "docs.parquet").slice(0, 120)
    corpus = dict(zip(documents["id"].to_pylist(), documents["text"].to_pylist(), strict=True))
    asked = pq.read_table(folder / "queries.parquet").to_pylist()
    texts = {query["id"]: query["text"] for query in asked}
    answers: dict[str, set[str]] = {}
    for line in (folder / "qrels.tsv").read_text().splitlines():
        query, _, document, _ = line.split("\t")
        if document in corpus:
            answers.setdefault(query, set()).add(document)
    return {query: texts[query] for query in answers}, corpus, answers


@pytest.fixture
def task(judged: tuple[dict[str, str], dict[str, str], dict[str, set[str]]]) -> Iterator[Any]:
    """The same as an MTEB task."""
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    queries, corpus, answers = judged

    class BundledManuals(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = TaskMetadata(
            name="BundledManuals",
            description="Headings of two manuals and the sections under them.",
            dataset={"path": "raybert/bundled", "revision": "1"},
            type="Retrieval",
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *_: Any, **__: Any) -> None:
            split = {
                "corpus": Dataset.from_list([{"id": k, "text": v} for k, v in corpus.items()]),
                "queries": Dataset.from_list([{"id": k, "text": v} for k, v in queries.items()]),
                "relevant_docs": {k: dict.fromkeys(v, 1) for k, v in answers.items()},
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return iter([BundledManuals()])


def test_mteb_finds_our_own_numbers(
    minilm: Path, task: Iterator[Any], judged: tuple[Any, Any, Any]
) -> None:
    encoder = DenseEncoder(minilm, device="cpu")
    result = mteb.evaluate(
        MtebEncoder(encoder), next(task), cache=None, show_progress_bar=False, co2_tracker=False
    )
    (scores,) = result.task_results[0].scores["test"]
    ours = InformationRetrievalEvaluator(*judged)(encoder)
    assert scores["ndcg_at_10"] == pytest.approx(ours["cosine_ndcg@10"], abs=1e-5)
    assert scores["recall_at_10"] == pytest.approx(ours["cosine_recall@10"], abs=1e-5)
    assert 0.5 < scores["ndcg_at_10"] < 1


def test_prompts_follow_the_kind_of_text() -> None:
    class Asked:
        """An encoder that says how it was asked."""

        def encode(self, texts: list[str]) -> list[str]:
            return [f"plain {text}" for text in texts]

        def encode_query(self, texts: list[str]) -> list[str]:
            return [f"query {text}" for text in texts]

        def encode_document(self, texts: list[str]) -> list[str]:
            return [f"document {text}" for text in texts]

    from mteb.types import PromptType

    adapter = MtebEncoder(Asked())
    batches = [{"text": ["a", "b"]}, {"text": ["c"]}]
    for prompt_type, word in ((PromptType.query, "query"), (PromptType.document, "document")):
        found = list(adapter.encode(batches, prompt_type=prompt_type))
        assert found == [f"{word} {text}" for text in "abc"]
    assert list(adapter.encode(batches)) == ["plain a", "plain b", "plain c"]
    assert adapter.mteb_model_meta.name == "raybert/encoder"
