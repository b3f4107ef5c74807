from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from datasets import load_dataset

from raybert.artifacts import read_manifest
from raybert.corpus.joined import read_vectors
from raybert.corpus.search import read_ids
from raybert.index.source import Embeddings
from raybert.mining import mine_paraphrases

Load = Callable[[str], ModuleType]
pytestmark = pytest.mark.usefixtures("ray_session")


def test_pairs_and_groups_are_written_once(
    load_job: Load, demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = load_job("mine_paraphrases")
    given = job.MineParaphrases(
        corpus=str(demo.embeddings),
        threshold=0.6,
        keep="longest",
        out=str(tmp_path / "out"),
        tracking_uri="none",
    )
    job.main(given)
    dataset = load_dataset("parquet", data_dir=str(tmp_path / "out" / "shards"), split="train")
    embeddings = Embeddings.open(str(demo.embeddings))
    ids = read_ids(embeddings).to_pylist()
    expected = mine_paraphrases(read_vectors(embeddings), threshold=0.6)
    found = list(zip(dataset["anchor_id"], dataset["positive_id"], strict=True))
    assert found
    assert found == [
        (ids[left], ids[right])
        for left, right in zip(expected.left.tolist(), expected.right.tolist(), strict=True)
    ]
    assert min(dataset["score"]) >= 0.6
    details = read_manifest(str(tmp_path / "out")).details
    assert details["groups"] == len(set(dataset["group"]))
    assert len(set(dataset["kept_id"])) == details["groups"]
    capsys.readouterr()
    job.main(given)
    assert f"nothing to do: {len(found)} rows" in capsys.readouterr().out
