from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybert import DenseEncoder
from raybert.artifacts import lineage

Load = Callable[[str], ModuleType]


def test_a_shallow_student_comes_nearer_to_its_teacher(
    load_job: Load, minilm: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of six layers, forty texts, ten steps: nearer than before, and once is enough."""
    job = load_job("distill")
    texts = pq.read_table(root / "data" / "demo" / "docs.parquet")["title"].to_pylist()[:40]
    pq.write_table(pa.table({"text": texts}), tmp_path / "texts.parquet")

    def run() -> Any:
        return job.main(
            job.Distill(
                out=str(tmp_path / "student"),
                tracking_uri="none",
                teacher=str(minilm),
                model=str(minilm),
                keep_layers=[0, 5],
                data={"files": [str(tmp_path / "texts.parquet")]},
                batch={"size": 20},
                schedule={"max_steps": 10, "learning_rate": 1e-3, "warmup_ratio": 0.0},
                scale={"device": "cpu"},
                max_seq_length=16,
            )
        )

    out = run()
    teacher = DenseEncoder(minilm, device="cpu").encode(texts)

    def distance(model: str) -> float:
        vectors = DenseEncoder(model, device="cpu").encode(texts)
        return float(((vectors - teacher) ** 2).mean())

    assert distance(out) < 0.7 * distance(f"{out}.student")
    kinds = [node.input.kind for node in lineage(out).inputs]
    assert kinds == ["pairs", "model"]
    run()
    assert "nothing to do" in capsys.readouterr().out
