"""Training on Ray's workers: the same as in this process, and on again after a death."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    create_scaling_policy,
)
from safetensors.torch import load_file

from raybert.artifacts import read_manifest
from raybert.encoders import DenseEncoder
from raybert.errors import InputError
from raybert.tracking import Run
from raybert.tracking import job as tracked
from raybert.tracking.store import NullStore
from raybert.training import Job, TrainingData, finish_model, open_data, train_job
from raybert.training.ray_trainer import trainer_class

SETTINGS: dict[str, Any] = {
    "schedule": {"max_steps": 60, "learning_rate": 2e-4},
    "batch": {"size": 16, "drop_last": True},
    "saving": {"every": 5, "log_every": 1},
}
UNTRACKED = Run(NullStore(), None)


def trained(job: Job, run: Run = UNTRACKED) -> tuple[dict[str, torch.Tensor], TrainingData]:
    data = open_data(job.settings.data)
    outcome = train_job(job, data, run)
    finish_model(job, data, outcome, run.run_id)
    return load_file(Path(job.settings.out) / "model.safetensors"), data


def kill_a_worker(checkpoints: Path, killed: list[int], seen: set[str]) -> None:
    """Kill one of this process's own Ray Train workers when a checkpoint is there.

    `seen` gets the names of Ray's processes at that time.
    """
    deadline = time.monotonic() + 240
    while not list(checkpoints.glob("*.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running = {
        each.pid: " ".join(each.cmdline()) for each in psutil.Process().children(recursive=True)
    }
    seen.update(running.values())
    killed.append(next(pid for pid, name in running.items() if "RayTrainWorker" in name))
    psutil.Process(killed[0]).kill()


def test_two_workers_of_which_one_is_killed_train_as_one_process(
    make_job: Callable[..., Job], ray_session: None, tmp_path: Path
) -> None:
    alone, _ = trained(make_job(out=str(tmp_path / "one"), **SETTINGS))
    uri = f"sqlite:///{tmp_path}/runs.db"
    scale = {"workers": 2, "device": "cpu", "threads": 1}
    job = make_job(out=str(tmp_path / "two"), scale=scale, tracking_uri=uri, **SETTINGS)
    killed: list[int] = []
    seen: set[str] = set()
    checkpoints = tmp_path / "two.checkpoints"
    killer = threading.Thread(target=kill_a_worker, args=(checkpoints, killed, seen))
    killer.start()
    with tracked(job.settings, name="two", kind="train_dense") as run:
        together, data = trained(job, run)
    killer.join()
    assert len(killed) == 1
    assert any("TrainController" in name for name in seen)
    assert not any("DatasetManager" in name for name in seen)
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=0, atol=5e-5)

    manifest = read_manifest(job.settings.out, kind="model")
    assert manifest.rows == len(data)
    assert manifest.details["steps"] == 60
    assert [item.kind for item in manifest.inputs] == ["pairs", "model"]
    assert manifest.fingerprint == DenseEncoder(job.settings.out).fingerprint
    assert not (tmp_path / "two.checkpoints").exists()

    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs.db")
    steps = {each.step for each in client.get_metric_history(str(run.run_id), "loss")}
    assert steps == set(range(1, 61))


def test_a_fault_on_the_workers_is_told_as_it_is(
    make_job: Callable[..., Job], ray_session: None
) -> None:
    job = make_job(scale={"workers": 2, "device": "cpu"}, batch={"size": 5})
    with pytest.raises(InputError, match=r"batch\.size 5: 2 workers cannot share it evenly"):
        train_job(job, open_data(job.settings.data), UNTRACKED)


def test_own_ray_trains_without_the_actors_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def callbacks(trainer: type[TorchTrainer]) -> set[str]:
        made: Any = trainer(print)
        return {type(each).__name__ for each in made._create_default_callbacks()}

    cluster, alone = callbacks(TorchTrainer), callbacks(trainer_class())
    assert cluster - alone == {"PlacementGroupCleanerCallback", "DatasetsCallback"}
    assert alone - cluster == {"_NoDatasets"}
    assert os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] == "0"
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert trainer_class() is TorchTrainer


def test_own_ray_is_asked_for_no_more_machines_unless_workers_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    begun: list[Any] = []
    handed_on = "_initialize_and_run_controller"
    monkeypatch.setattr(TorchTrainer, handed_on, lambda _, **parts: begun.append(parts))
    for workers in (2, (1, 2)):
        made: Any = trainer_class()(print, scaling_config=ScalingConfig(num_workers=workers))
        policy = create_scaling_policy(made.scaling_config)
        made._initialize_and_run_controller(scaling_policy=policy)
    fixed, elastic = (parts["scaling_policy"] for parts in begun)
    fixed.after_controller_start(None)
    decision = fixed.make_decision_for_non_running_worker_group()
    assert (decision.num_workers, fixed._coordinator_client) == (2, None)
    assert type(elastic) is ElasticScalingPolicy
