"""The job as people run it: a real model, trained for some steps, saved, opened, skipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybert import DenseEncoder
from raybert.artifacts import read_manifest


def run(root: Path, out: Path, data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(root / "pipelines" / "train_dense.py"),
        *("--model", "all-MiniLM-L6-v2", "--out", str(out), "--tracking-uri", "none"),
        *("--data.files", str(data), "--scale.device", "cpu", "--max-seq-length", "32"),
        *("--schedule.max-steps", "8", *more),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def data(root: Path, tmp_path: Path) -> Path:
    """Titles and texts of the bundled corpus."""
    docs = pq.read_table(root / "data" / "demo" / "docs.parquet").slice(0, 300)
    pq.write_table(docs.select(["title", "text"]), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def test_a_real_model_is_trained_measured_saved_and_not_trained_again(
    root: Path, data: Path, tmp_path: Path
) -> None:
    titles = pq.read_table(data)["title"].to_pylist()
    pairs = pa.table(
        {
            "a": titles[:20],
            "b": titles[:10] + titles[20:30],
            "score": [1.0] * 10 + [0.0] * 10,
        }
    )
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    out = tmp_path / "model"
    evaluation = ("--evaluation.pairs.files", str(tmp_path / "pairs.parquet"))
    done = run(root, out, data, *evaluation)
    assert done.returncode == 0, done.stderr
    assert "8 steps of MultipleNegativesRankingLoss over 300 rows" in done.stdout
    assert "spearman_cosine: " in done.stdout
    manifest = read_manifest(out, kind="model")
    assert set(manifest.details["before"]) == {"pearson_cosine", "spearman_cosine"}
    encoder = DenseEncoder(out)
    assert encoder.max_seq_length == 32
    assert encoder.fingerprint == manifest.fingerprint
    assert "base_model: all-MiniLM-L6-v2" in (out / "README.md").read_text()

    again = run(root, out, data, *evaluation)
    assert "nothing to do: trained already, 8 steps" in again.stdout
    other = run(root, out, data, "--seed", "1")
    assert other.returncode == 2
    assert "holds something else that is finished" in other.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.columns", "anchor=title", "--data.columns", "positive=body"], "no column 'body'"),
        (["--loss.name", "CosineSimilarityLoss"], "CosineSimilarityLoss needs the columns"),
        (["--loss.name", "NoLoss"], "dense loss 'NoLoss'"),
        (["--batch.sampler", "sorted"], "--batch.sampler 'sorted'"),
        (["--batch.size", "0"], "--batch.size '0'"),
        (["--model", "/no/such/model"], "/no/such/model"),
        (["--evaluation.qrels", "x.tsv"], "queries, corpus and qrels are needed together"),
    ],
)
def test_a_fault_is_one_line_and_leaves_nothing(
    root: Path, data: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    done = run(root, tmp_path / "out", data, *flags)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
