from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.errors import ArtifactError, ModelError
from raybert.evaluation.searching import encoder_of, fuse, open_reranker, rerank, search
from raybert.fusion import Place
from raybert.index import Index, build_index, open_index
from raybert.records import Hit, Ranking

DOCUMENTS = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [0.0, 1.0]}
QUERIES = {"q1": "east", "q2": "north"}
VECTORS = {"east": [1, 0.1], "north": [0.1, 1]}


@pytest.fixture
def index(tmp_path: Path, minilm: Path) -> Index:
    """Three documents; their vectors are said to be MiniLM's."""
    folder = Folder(tmp_path / "embeddings")
    rows = np.array(list(DOCUMENTS.values()), dtype=np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 2)
    table = pa.table({"id": list(DOCUMENTS), "vector": vectors})
    model = Input(kind="model", uri=str(minilm), fingerprint="another")
    write_manifest(
        folder,
        Manifest(
            kind="embeddings",
            settings={"text_column": "text"},
            inputs=(model,),
            shards=(write_table(folder, "shards/0.parquet", table),),
        ),
    )
    texts = pa.table({"id": list(DOCUMENTS), "text": [f"text {i}" for i in DOCUMENTS]})
    build_index(folder.uri, str(tmp_path / "index"), documents=[texts])
    return open_index(str(tmp_path / "index"))


def ids(rankings: list[Ranking]) -> list[list[str]]:
    return [[hit.id for hit in ranking] for ranking in rankings]


def test_every_query_gets_its_ranking(
    index: Index, written_vectors: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = written_vectors(VECTORS)
    found = search(QUERIES, index, encoder, 2)
    assert [ranking.query_id for ranking in found] == ["q1", "q2"]
    assert ids(found) == [["a", "b"], ["c", "b"]]
    monkeypatch.setattr("raybert.evaluation.searching._QUERIES_AT_ONCE", 1)
    told: list[int] = []
    assert search(QUERIES, index, encoder, 2, advance=told.append) == found
    assert told == [1, 1]
    assert [task for task, _ in encoder.calls] == ["query"] * 3


def test_one_leg_stays_as_it_is_and_two_are_joined() -> None:
    one = [Ranking("q", (Hit("a", 3.0), Hit("b", 2.0)))]
    two = [Ranking("q", (Hit("b", 0.9), Hit("c", 0.1)))]
    alone, places = fuse({"one": one}, 2)
    assert alone == one
    assert places["q", "b"] == {"one": Place(2, 2.0)}
    joined, places = fuse({"one": one, "two": two}, 2)
    assert places["q", "b"] == {"one": Place(2, 2.0), "two": Place(1, 0.9)}
    assert ids(joined) == [["b", "a"]]
    assert joined[0].hits[0].score == pytest.approx(1 / 61 + 1 / 62)


def test_reranking_orders_by_the_scores_of_pairs(
    index: Index,
    written_vectors: Callable[..., Any],
    written_scores: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = search(QUERIES, index, written_vectors(VECTORS), 3)
    reranker = written_scores({"text a": 0.1, "text b": 0.9, "text c": 0.9})
    again = rerank(found, QUERIES, index, reranker)
    assert ids(again) == [["b", "c", "a"]] * 2  # equal scores by id
    assert again[0].hits[0].score == pytest.approx(0.9)
    monkeypatch.setattr("raybert.evaluation.searching._PAIRS_AT_ONCE", 4)
    told: list[int] = []
    assert rerank(found, QUERIES, index, reranker, told.append) == again
    assert told == [4, 2]
    assert rerank([Ranking("q1", ())], QUERIES, index, reranker) == [Ranking("q1", ())]


def test_another_model_than_the_indexs_is_refused(index: Index, minilm: Path) -> None:
    with pytest.raises(ArtifactError, match=r"the index was made by the model .* \(another\)"):
        encoder_of(index, device="cpu")
    with pytest.raises(ModelError, match="no cross-encoder with one label"):
        open_reranker(str(minilm), device="cpu")
