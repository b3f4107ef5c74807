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
from raybert.index.generations import Generations
from raybert.index.live import LiveIndex

TEXTS = {"cat": "A cat sleeps on the sofa.", "tax": "Income tax is due.", "sea": "Waves at sea."}


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> str:
    folder = Folder(str(tmp_path_factory.mktemp("generations") / "embeddings"))
    vectors = np.asarray(DenseEncoder(minilm).encode(list(TEXTS.values())), np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = pa.table({"id": list(TEXTS), "vector": column, "content": list(TEXTS)})
    model = Input(kind="model", uri=str(minilm), fingerprint=fingerprint_folder(minilm))
    shard = write_table(folder, "shards/00000.parquet", table)
    write_manifest(folder, Manifest(kind="embeddings", inputs=(model,), shards=(shard,)))
    return folder.uri


def test_build_verify_switch_and_back(
    embeddings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(tmp_path / "faq")
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    queries.write_text('{"id": "q1", "text": "a pet"}\n{"id": "q2", "text": "money"}\n')
    qrels.write_text("q1 0 cat 1\nq2 0 tax 1\n")
    assert main(["generations", name, "build", embeddings]) == 0
    assert main(["generations", name, "switch", "g1"]) == 0
    assert main(["generations", name, "build", embeddings, "--kind", "hnsw"]) == 0
    capsys.readouterr()
    asked = ["--queries", str(queries), "--qrels", str(qrels), "--at", "2", "--json"]
    assert main(["generations", name, "verify", "g2", *asked]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["overlap"], found["same_first"], found["queries"]) == (1.0, 1.0, 2)
    assert found["current_ndcg"] == found["next_ndcg"] > 0.5
    assert main(["generations", name, "switch", "g2"]) == 0
    assert main(["generations", name, "rollback"]) == 0
    capsys.readouterr()
    assert main(["generations", name, "list", "--json"]) == 0
    history = json.loads(capsys.readouterr().out)
    assert history["current"] == "g1"
    assert history["generations"][1]["verified"]["overlap"] == 1.0
    assert main(["generations", name, "list"]) == 0
    assert "current" in capsys.readouterr().out


def test_a_live_generation_is_begun_and_tried(
    tmp_path: Path, minilm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(tmp_path / "faq")
    assert main(["generations", name, "live", str(minilm)]) == 0
    live = LiveIndex(f"{name}/g1/dense")
    assert live.snapshot().model_fingerprint == fingerprint_folder(minilm)
    assert live.snapshot().dimension == 384
    assert main(["generations", name, "canary", "g1", "--share", "0.5", "--shadow"]) == 0
    assert "compared with the current one on 50% of the queries" in capsys.readouterr().out
    assert main(["generations", name, "canary"]) == 0
    assert Generations(name).history.canary is None


def test_a_live_generation_of_sparse_rows_needs_a_sparse_model(
    tmp_path: Path, minilm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generations", str(tmp_path), "live", str(minilm), "--kind", "inverted"]) != 0
    assert "does dense; kind 'inverted' takes sparse rows" in capsys.readouterr().err


def test_faults_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generations", str(tmp_path), "switch", "g9"]) != 0
    assert "no generation 'g9'; there are: none" in capsys.readouterr().err
