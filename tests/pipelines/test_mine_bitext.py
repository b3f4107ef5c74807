from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from datasets import load_dataset

from raybert.artifacts import read_manifest
from raybert.evaluation import read_qrels

Load = Callable[[str], ModuleType]
pytestmark = pytest.mark.usefixtures("ray_session")


def test_partners_are_found_and_the_threshold_is_set_by_what_is_known(
    load_job: Load,
    demo: Any,
    query_embeddings: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Questions and their answers stand for two languages: each has one partner, most have none."""
    job = load_job("mine_bitext")
    given = job.MineBitext(
        sources=query_embeddings,
        targets=str(demo.embeddings),
        known=str(demo.qrels),
        out=str(tmp_path / "out"),
        tracking_uri="none",
    )
    job.main(given)
    dataset = load_dataset("parquet", data_dir=str(tmp_path / "out" / "shards"), split="train")
    assert dataset.column_names[:2] == ["anchor", "positive"]
    details = read_manifest(str(tmp_path / "out")).details
    known = read_qrels(str(demo.qrels))
    right = [row["positive_id"] in known[row["anchor_id"]] for row in dataset]
    assert sum(right) / len(right) == pytest.approx(details["precision"])
    assert details["f1"] > 0.6
    assert min(dataset["score"]) >= details["threshold"]
    assert len(set(dataset["positive_id"])) == len(dataset), "one to one"
    capsys.readouterr()
    job.main(given)
    assert "nothing to do" in capsys.readouterr().out
