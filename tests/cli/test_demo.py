"""The demo from end to end, on 120 documents instead of 1,967, with two steps of training."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from raybert.artifacts import read_manifest
from raybert.cli import main

EVERY = 8
"""One question in so many is asked, of pages all over the manuals."""


@pytest.fixture
def checkout(root: Path, tmp_path: Path, ray_token: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a small corpus: a few questions, their answers and some other documents."""
    folder = tmp_path / "checkout"
    data = folder / "data" / "demo"
    data.mkdir(parents=True)
    for name in ("platform", "pipelines", "serve"):
        (folder / name).symlink_to(root / name)
    source = root / "data" / "demo"
    lines = (source / "qrels.tsv").read_text().splitlines()[::EVERY]
    (data / "qrels.tsv").write_text("\n".join(lines) + "\n")
    answers = [line.split()[2] for line in lines]
    docs = pq.read_table(source / "docs.parquet")
    asked = docs.filter(pc.is_in(docs["id"], pc.cast(answers, "string")))
    others = docs.filter(pc.invert(pc.is_in(docs["id"], pc.cast(answers, "string")))).slice(0, 30)
    with pq.ParquetWriter(data / "docs.parquet", docs.schema) as writer:
        writer.write_table(asked)
        writer.write_table(others)
    queries = pq.read_table(source / "queries.parquet")
    chosen = pa.array(range(0, len(queries), EVERY))
    pq.write_table(queries.take(chosen), data / "queries.parquet")
    monkeypatch.chdir(folder)
    (tmp_path / "home").mkdir()
    shutil.copy2(ray_token, tmp_path / "home" / "ray.token")
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path / "home"))
    return folder


def test_the_demo_answers_and_the_second_time_skips_what_is_done(
    checkout: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        assert main(["demo", "--steps", "2"]) == 0, capfd.readouterr()
        first = capfd.readouterr().out
        assert main(["demo", "--steps", "2"]) == 0, capfd.readouterr()
        second = capfd.readouterr().out
    finally:
        mlflow.set_tracking_uri(None)
        assert main(["down"]) == 0
    assert "done before" not in first
    assert second.count("(done before)") == 10
    assert "2 steps on two workers, MultipleNegativesRankingLoss" in first
    assert "champion" in first
    assert "runs already" in second
    assert "nDCG@10" in first
    for name in ("MLflow", "Serve"):
        assert re.search(rf"{name} +http://127\.0\.0\.1:", first), name
    assert len(re.findall(r"^ +0\.\d{4}  \S", first, re.MULTILINE)) == 9, "three hits a question"
    report = read_manifest(str(tmp_path / "home" / "demo" / "report"), kind="report")
    assert report.details["metrics"]["recall@10"] >= 0.75
    (named,) = re.findall(r"raybert lineage (\S+)", first)
    assert main(["lineage", named]) == 0
    assert "── pairs" in capfd.readouterr().out, "the triplets that the model was trained on"
    shutil.rmtree(tmp_path / "home" / "demo")
