from __future__ import annotations

import json
import struct
from pathlib import Path

from raybert.artifacts import Folder, Input, read_manifest, read_table
from raybert.evaluation import (
    hit_score_plot,
    judge,
    measure,
    query_table,
    ranking_plots,
    score_plot,
    write_report,
)
from raybert.records import Hit, Ranking

JUDGED = [judge(["a", "b", "c"], {"b": 1}), judge(["a", "b"], {"z": 1})]


def test_report_has_numbers_words_and_pictures(tmp_path: Path) -> None:
    manifest = write_report(
        str(tmp_path),
        measure(JUDGED),
        title="Retrieval of a toy",
        rows=2,
        plots=[*ranking_plots(JUDGED), score_plot([0.9], [0.1, 0.2])],
        inputs=[Input(kind="run", uri="runs/toy", fingerprint="f1")],
    )
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["metrics"]["mrr@10"] == 0.25
    assert told["rows"] == 2
    words = (tmp_path / "report.md").read_text()
    assert "| mrr@10 | 0.2500 |" in words
    assert "runs/toy" in words
    pictures = sorted((tmp_path / "plots").iterdir())
    assert len(pictures) == 4
    for picture in pictures:
        data = picture.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", data[16:24]) == (768, 480)
        assert f"plots/{picture.name}" in words
    assert read_manifest(tmp_path, kind="report") == manifest
    assert {shard.file for shard in manifest.shards} >= {"report.json", "plots/scores.png"}


def test_queries_are_listed_worst_first(tmp_path: Path) -> None:
    table = query_table({"good": judge(["b"], {"b": 1}), "bad": judge(["a"], {"b": 1})})
    assert table["query_id"].to_pylist() == ["bad", "good"]
    assert table["ndcg@10"].to_pylist() == [0.0, 1.0]
    manifest = write_report(str(tmp_path), {}, title="t", rows=2, tables={"queries": table})
    shard = manifest.shards[-1]
    assert read_table(Folder(tmp_path), shard).equals(table)


def test_equal_scores_can_be_drawn(tmp_path: Path) -> None:
    write_report(str(tmp_path), {}, title="t", rows=1, plots=[score_plot([0.5], [0.5])])
    assert (tmp_path / "plots" / "scores.png").exists()


def test_hits_are_split_by_relevance() -> None:
    rankings = [Ranking("q", (Hit("a", 1.0), Hit("b", 0.0)))]
    assert hit_score_plot(rankings, {"q": {"a": 1}}) is not None
    assert hit_score_plot(rankings, {"q": {"a": 1, "b": 1}}) is None
