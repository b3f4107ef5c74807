from __future__ import annotations

from pathlib import Path

import ir_measures
import pyarrow.parquet as pq
import pytest

from raybert.artifacts import Input, read_manifest
from raybert.errors import ArtifactError
from raybert.evaluation import read_run, write_run
from raybert.fusion import Place
from raybert.records import Hit, Ranking

RANKINGS = [
    Ranking("q1", (Hit("a", 0.5), Hit("b", 0.5), Hit("c", -0.1))),
    Ranking("q2", (Hit("c", 0.0),)),
]


def test_rankings_come_back_as_written(tmp_path: Path) -> None:
    inputs = [Input(kind="index", uri="i", fingerprint="f")]
    manifest = write_run(
        str(tmp_path), RANKINGS, settings={"top_k": 3}, inputs=inputs, mlflow_run="r"
    )
    assert read_run(str(tmp_path)) == RANKINGS
    assert manifest == read_manifest(tmp_path, kind="run")
    assert (manifest.rows, manifest.details["queries"], manifest.mlflow_run) == (4, 2, "r")


def test_places_in_the_legs_are_kept(tmp_path: Path) -> None:
    places = {("q1", "a"): {"dense": Place(1, 0.5), "sparse": Place(7, 3.0)}}
    write_run(str(tmp_path), RANKINGS, settings={}, inputs=[], places=places)
    assert read_run(str(tmp_path)) == RANKINGS
    legs = pq.read_table(tmp_path / "ranking.parquet")["legs"].to_pylist()
    assert legs[0] == [
        {"leg": "dense", "rank": 1, "score": 0.5},
        {"leg": "sparse", "rank": 7, "score": 3.0},
    ]
    assert legs[1:] == [[], [], []]


def test_trec_file_is_read_by_trec_tools(tmp_path: Path) -> None:
    write_run(str(tmp_path), RANKINGS, settings={}, inputs=[])
    found = list(ir_measures.read_trec_run(str(tmp_path / "run.trec")))
    assert [(hit.query_id, hit.doc_id) for hit in found] == [
        ("q1", "a"),
        ("q1", "b"),
        ("q1", "c"),
        ("q2", "c"),
    ]
    assert found[0].score > found[1].score > found[2].score


def test_damaged_and_missing_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such artifact"):
        read_run(str(tmp_path / "nowhere"))
    write_run(str(tmp_path), RANKINGS, settings={}, inputs=[])
    (tmp_path / "ranking.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"ranking\.parquet"):
        read_run(str(tmp_path))
