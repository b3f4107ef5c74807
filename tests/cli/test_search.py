from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raybert.artifacts import (
    Folder,
    Input,
    Manifest,
    fingerprint_folder,
    write_manifest,
    write_table,
)
from raybert.cli import main
from raybert.encoders import DenseEncoder
from raybert.index import build_index

TEXTS = {
    "cat": "A cat sleeps on the sofa.",
    "tax": "Income tax is due in May.",
    "sea": "Waves at sea.",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> str:
    folder = tmp_path_factory.mktemp("search")
    vectors = np.asarray(DenseEncoder(minilm).encode(list(TEXTS.values())), np.float32)
    flat = pa.array(vectors.ravel(), pa.float32())
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = pa.table({"id": list(TEXTS), "vector": column, "content": list(TEXTS)})
    embeddings = Folder(str(folder / "embeddings"))
    model = Input(kind="model", uri=str(minilm), fingerprint=fingerprint_folder(minilm))
    manifest = Manifest(
        kind="embeddings",
        fingerprint="e" * 32,
        settings={"model": str(minilm)},
        rows=3,
        inputs=(Input(kind="corpus", uri="docs", fingerprint="c" * 32), model),
        shards=(write_table(embeddings, "shards/00000.parquet", table),),
        details={"dimension": vectors.shape[1], "similarity_fn_name": "cosine"},
    )
    write_manifest(embeddings, manifest)
    documents = pa.table({"id": list(TEXTS), "text": list(TEXTS.values())})
    build_index(str(folder / "embeddings"), str(folder / "index"), documents=[documents])
    return str(folder / "index")


def test_the_best_answer_comes_first(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", index, "a", "pet", "is", "resting", "--top-k", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["query"] == "a pet is resting"
    assert [hit["rank"] for hit in found["hits"]] == [1, 2]
    assert found["hits"][0]["id"] == "cat"
    assert found["hits"][0]["text"] == TEXTS["cat"]
    assert found["hits"][0]["score"] > found["hits"][1]["score"]


def test_answers_for_people_have_score_and_text(
    index: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", index, "the ocean", "--top-k", "1"]) == 0
    question, head, text = capsys.readouterr().out.splitlines()
    assert question == "the ocean"
    assert head.split()[1] == "sea"
    assert text.strip() == TEXTS["sea"]
