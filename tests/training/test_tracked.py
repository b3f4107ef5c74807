"""A training job as one MLflow run: killed and gone on with, logged, registered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from raybert.encoders import DenseEncoder
from raybert.tracking import Registry, Run
from raybert.tracking.notes import Spool
from raybert.tracking.store import MlflowStore
from raybert.training import Job, run_training

SETTINGS: dict[str, Any] = {
    "schedule": {"max_steps": 6},
    "batch": {"size": 8},
    "saving": {"every": 2, "log_every": 1, "register_as": "small"},
}


class StoppedError(Exception):
    """Stands for a process that dies."""


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path / "home"))
    return f"sqlite:///{tmp_path}/runs.db"


@contextmanager
def at_step(step: int, happens: Callable[[], None]) -> Iterator[None]:
    """Let something happen when a step is logged."""
    say = Run.metrics

    def said(run: Run, values: Mapping[str, float], at: int = 0) -> None:
        if "loss" in values and at == step:
            happens()
        say(run, values, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "metrics", said)
        yield


def die() -> None:
    raise StoppedError


def test_a_training_killed_and_begun_again_is_one_run_with_its_model(
    make_job: Callable[..., Job], uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(tracking_uri=uri, **SETTINGS)
    with at_step(5, die), pytest.raises(StoppedError):
        run_training(job, "train_dense")
    run_training(job, "train_dense")
    assert re.search(
        r"^train 6 of 6 steps  loss \d\.\d{4}  [\d.]+ pairs/s", capsys.readouterr().err, re.M
    )

    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("raybert").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["schedule.max_steps"] == "6"
    assert len(run.data.tags["mlflow.source.git.commit"]) == 40
    steps = [each.step for each in client.get_metric_history(run.info.run_id, "loss")]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert {"grad_norm", "learning_rate", "tokens_per_second", "padding_share"} <= set(
        run.data.metrics
    )
    assert run.inputs.dataset_inputs[0].dataset.name == "anchor-positive.parquet"
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"README.md", "plots"}
    plots = {file.path for file in client.list_artifacts(run.info.run_id, "plots")}
    assert plots == {f"plots/{name}.png" for name in ("loss", "gradient", "learning_rate", "speed")}

    registry = Registry(uri)
    assert registry.find("small", 1).run_id == run.info.run_id
    loaded = mlflow.pyfunc.load_model("models:/small/1")
    example = loaded.input_example
    assert list(example.columns) == ["text"]
    expected = DenseEncoder(job.settings.out).encode(list(example["text"]))
    np.testing.assert_array_equal(np.asarray(loaded.predict(example)), expected)
    assert "float32" in str(loaded.metadata.signature.outputs)
    mlflow.set_tracking_uri(None)


def test_a_tracking_server_that_goes_away_stops_no_training(
    make_job: Callable[..., Job],
    uri: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server is away")

    def goes() -> None:
        for name in ("send", "file", "end"):
            patch.setattr(MlflowStore, name, away)
        patch.setattr(Registry, "__init__", away)

    job = make_job(tracking_uri=uri, **SETTINGS)
    with pytest.MonkeyPatch.context() as patch, at_step(3, goes):
        run_training(job, "train_dense")
    assert "the log is kept in" in capsys.readouterr().err
    assert DenseEncoder(job.settings.out).encode(["a text"]).shape == (1, 32)
    (spool,) = Spool.left(uri)

    lora = {"rank": 4, "layers": ["query", "value"]}
    second = make_job(tracking_uri=uri, lora=lora, out=f"{job.settings.out}-2")
    run_training(second, "train_dense")
    assert DenseEncoder(second.settings.out).encode(["a text"]).shape == (1, 32)
    assert Spool.left(uri) == []
    client = mlflow.MlflowClient(tracking_uri=uri)
    steps = [each.step for each in client.get_metric_history(spool.run_id, "loss")]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert client.get_run(spool.run_id).info.status == "FINISHED"
