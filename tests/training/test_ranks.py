"""One process with a batch, and two with half of it each, are the same training."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

SPLADE = {
    "loss": "SparseMultipleNegativesRankingLoss",
    "document_regularizer_weight": 3e-3,
    "query_regularizer_weight": 5e-3,
}
CASES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "ranking": (
        "dense",
        ("anchor", "positive"),
        {"loss": {"name": "MultipleNegativesRankingLoss"}},
    ),
    "cached": (
        "dense",
        ("anchor", "positive"),
        {
            "loss": {"name": "MultipleNegativesRankingLoss"},
            "batch": {"size": 32, "cached_rows": 8, "accumulate": 2, "drop_last": True},
        },
    ),
    "splade": (
        "sparse",
        ("anchor", "positive"),
        {"loss": {"name": "SpladeLoss", "settings": SPLADE}, "max_seq_length": 8},
    ),
    "split": (
        "dense",
        ("anchor", "positive"),
        {
            "loss": {"name": "MultipleNegativesRankingLoss"},
            "scale": {"device": "cpu", "split_weights": True},
            "saving": {"every": 4, "log_every": 1},
        },
    ),
    "split_cached": (
        "cross",
        ("anchor", "other", "score"),
        {
            "loss": {"name": "BinaryCrossEntropyLoss"},
            "scale": {"device": "cpu", "split_weights": True},
            "batch": {"size": 32, "cached_rows": 8, "accumulate": 2, "drop_last": True},
        },
    ),
    "pairs": ("cross", ("anchor", "other", "score"), {"loss": {"name": "BinaryCrossEntropyLoss"}}),
}
STEPS = {"ranking": 50, "cached": 8, "splade": 8, "pairs": 20, "split": 10, "split_cached": 4}


@pytest.fixture(scope="module")
def results(
    rows: pa.Table, small_model: Callable[[str, float], Path], tmp_path_factory: Any
) -> dict[int, list[dict[str, Any]]]:
    """What every rank of a world of one and of two came to."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    jobs = {}
    for name, (family, columns, more) in CASES.items():
        pq.write_table(rows.select(list(columns)), folder / f"{name}.parquet")
        jobs[name] = (
            family,
            {
                "out": str(folder / "WORLD" / name),
                "model": str(small_model(family, 0.0)),
                "data": {"files": [str(folder / f"{name}.parquet")]},
                "saving": {"log_every": 1},
                "schedule": {"max_steps": STEPS[name], "learning_rate": 2e-5},
                "scale": {"device": "cpu"},
                "batch": {"size": 64, "drop_last": True},
                **more,
            },
        )
    return {world: _run(folder / str(world), jobs, world) for world in (1, 2)}


def _run(folder: Path, jobs: dict[str, Any], world: int) -> list[dict[str, Any]]:
    folder.mkdir()
    (folder / "jobs.json").write_text(json.dumps(jobs).replace("WORLD", str(world)))
    script = Path(__file__).with_name("train_rank.py")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(world), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * world, "".join(errors)
    return [
        torch.load(folder / f"world{world}-rank{rank}.pt", weights_only=False)
        for rank in range(world)
    ]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_as_one(results: dict[int, list[dict[str, Any]]], name: str) -> None:
    (one,), two = results[1], results[2]
    assert len(one[name]["curve"]) == STEPS[name]
    for rank in two:
        assert rank[name]["curve"] == pytest.approx(one[name]["curve"], abs=1e-5, rel=1e-5)
        for weight, known in one[name]["weights"].items():
            torch.testing.assert_close(rank[name]["weights"][weight], known, rtol=0, atol=1e-5)


def test_a_split_training_goes_on_unsplit(results: dict[int, list[dict[str, Any]]]) -> None:
    (one,), two = results[1], results[2]
    for rank in two:
        assert rank["split_weights"] == "DTensor"
        assert len(rank["resumed"]["curve"]) == STEPS["split"] - 4
        for weight, known in one["split"]["weights"].items():
            torch.testing.assert_close(rank["resumed"]["weights"][weight], known, rtol=0, atol=1e-5)


def test_what_ranks_do_together(results: dict[int, list[dict[str, Any]]]) -> None:
    for rank in results[2]:
        assert rank["mean"].tolist() == [0.5, 0.5]
        assert rank["gathered"] == [0, 1]
        assert math.isnan(rank["not_finite"])
        assert rank["fault"] == "only rank 0 saw this"
        shared = rank["sharded"]
        np.testing.assert_allclose(shared["parts"], shared["whole"], atol=1e-6)
        assert shared["fault"] == results[2][0]["sharded"]["fault"]
