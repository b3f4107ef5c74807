"""MTEB measures a model through the edge, on a task made of the documents at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raybert import DenseEncoder
from raybert.encoders import EndpointEncoder
from raybert.evaluation.mteb_encoder import MtebEncoder
from raybert.serving import Desk, Directory, Embedder, GatewaySettings, ModelSettings, build_gateway

mteb = pytest.importorskip("mteb")

QUERIES = {
    "largest city of France": "paris",
    "dough and yeast": "bread",
    "a language for computers": "python",
    "hot and dry": "desert",
    "played with a bow": "violin",
}


@pytest.fixture(scope="module")
def url(minilm: Path, behind_uvicorn: Callable[[Any], str]) -> str:
    """The gateway over the real MiniLM."""
    models = Directory(Embedder.open({"minilm": ModelSettings(path=str(minilm))}, threads=1))
    return behind_uvicorn(build_gateway(Desk(GatewaySettings(), models)))


@pytest.fixture(scope="module")
def task(documents: dict[str, str]) -> Any:
    """A retrieval task of eight documents."""
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class FewDocuments(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = TaskMetadata(
            name="FewDocuments",
            description="Words that mean one of eight documents.",
            dataset={"path": "raybert/few", "revision": "1"},
            type="Retrieval",
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *_: Any, **__: Any) -> None:
            split = {
                "corpus": Dataset.from_list([{"id": k, "text": v} for k, v in documents.items()]),
                "queries": Dataset.from_list([{"id": k, "text": k} for k in QUERIES]),
                "relevant_docs": {query: {known: 1} for query, known in QUERIES.items()},
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return FewDocuments


def test_mteb_finds_the_same_behind_an_endpoint(
    url: str, encoder: DenseEncoder, task: Callable[[], Any]
) -> None:
    def scores(model: Any) -> dict[str, float]:
        adapter = MtebEncoder(model, revision="here")
        quiet = {"cache": None, "show_progress_bar": False, "co2_tracker": False}
        (found,) = mteb.evaluate(adapter, task(), **quiet).task_results[0].scores["test"]
        return {name: value for name, value in found.items() if isinstance(value, float)}

    served, local = scores(EndpointEncoder(url, "minilm")), scores(encoder)
    assert served == pytest.approx(local, abs=1e-6, nan_ok=True)
    assert served["ndcg_at_10"] > 0.8
