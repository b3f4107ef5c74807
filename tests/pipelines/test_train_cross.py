from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybert import CrossEncoder
from raybert.artifacts import read_manifest
from raybert.errors import InputError


def flags(data: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--model", "all-MiniLM-L6-v2", "--data.files", str(data), "--out", str(out)),
        *("--tracking-uri", "none", "--scale.device", "cpu", "--max-seq-length", "32"),
        *("--schedule.max-steps", "3", "--batch.size", "8", *more),
    ]


@pytest.fixture
def data(root: Path, tmp_path: Path) -> Path:
    """Titles with their own text (1) and with another one (0)."""
    docs = pq.read_table(root / "data" / "demo" / "docs.parquet").slice(0, 40)
    titles, texts = docs["title"].to_pylist(), docs["text"].to_pylist()
    pairs = pa.table(
        {
            "query": titles * 2,
            "document": texts + texts[1:] + texts[:1],
            "label": [1] * 40 + [0] * 40,
        }
    )
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def test_a_cross_encoder_is_made_of_a_plain_model(
    load_job: Callable[[str], ModuleType], data: Path, tmp_path: Path
) -> None:
    train, out = load_job("train_cross"), tmp_path / "model"
    more = ("--evaluation.pairs.files", str(data), "--evaluation.pairs.rows", "60")
    train.main(train.TrainCross.from_command_line(flags(data, out, *more)))
    manifest = read_manifest(out, kind="model")
    assert manifest.details["loss"] == "BinaryCrossEntropyLoss"
    assert set(manifest.details["metrics"]) == {"pearson", "spearman"}
    encoder = CrossEncoder(out)
    assert encoder.num_labels == 1
    scores = encoder.predict([("a question", "an answer"), ("a", "b")])
    assert ((scores > 0) & (scores < 1)).all()


def test_classes_need_as_many_labels(
    load_job: Callable[[str], ModuleType], data: Path, tmp_path: Path
) -> None:
    train, out = load_job("train_cross"), tmp_path / "model"
    more = ("--num-labels", "3")
    train.main(train.TrainCross.from_command_line(flags(data, out, *more)))
    assert read_manifest(out).details["loss"] == "CrossEntropyLoss"
    assert CrossEncoder(out).num_labels == 3
    wrong = ("--data.columns", "query=query", "--data.columns", "label=label")
    with pytest.raises(InputError, match="needs the columns query, document"):
        train.main(train.TrainCross.from_command_line(flags(data, tmp_path / "x", *wrong)))
