"""Kill -9 of the driver: the same command goes on, to the very same weights."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from raybert.devices import set_threads
from raybert.tracking import Run
from raybert.tracking.store import NullStore
from raybert.training import Job, open_data, train_job

SETTINGS: dict[str, Any] = {
    "schedule": {"max_steps": 80, "learning_rate": 2e-4},
    "batch": {"size": 16},
    "saving": {"every": 4},
    "scale": {"device": "cpu", "threads": 1},
    "dropout": 0.1,
}


def start(root: Path, job: Job, config: Path) -> subprocess.Popen[str]:
    config.write_text(job.settings.model_dump_json())  # JSON is YAML
    command = [sys.executable, str(root / "pipelines" / "train_dense.py"), "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_driver_goes_on_to_the_same_weights(
    make_job: Callable[..., Job], root: Path, tmp_path: Path
) -> None:
    job = make_job(out=str(tmp_path / "killed"), **SETTINGS)
    killed = start(root, job, tmp_path / "job.yaml")
    while not list((tmp_path / "killed.checkpoints").glob("step-*.pt")) and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    assert killed.communicate()[0] == ""
    assert not (tmp_path / "killed").exists()
    again = start(root, job, tmp_path / "job.yaml")
    assert "80 steps" in again.communicate()[0]

    threads = torch.get_num_threads()
    clean = make_job(out=str(tmp_path / "clean"), **SETTINGS)
    train_job(clean, open_data(clean.settings.data), Run(NullStore(), None))
    set_threads(threads)
    known = load_file(tmp_path / "clean" / "model.safetensors")
    for name, weight in load_file(tmp_path / "killed" / "model.safetensors").items():
        assert torch.equal(weight, known[name]), name
