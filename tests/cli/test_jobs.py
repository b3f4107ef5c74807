from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raybert.cli import main
from raybert.jobs import Cluster, Job, Jobs


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a command asks of a cluster, which is stood in for."""
    calls: list[Any] = []

    def connect(self: Jobs, cluster: Cluster) -> None:
        self.cluster = cluster
        calls.append(cluster)

    def submit(self: Jobs, *arguments: Any) -> str:
        calls.append(arguments)
        return "job-1"

    def follow(self: Jobs, job_id: str, write: Any) -> Job:
        write("done\n")
        return Job(job_id, "FAILED", 2)

    monkeypatch.setattr(Jobs, "__init__", connect)
    monkeypatch.setattr(Jobs, "submit", submit)
    monkeypatch.setattr(Jobs, "follow", follow)
    return calls


def test_flags_say_what_the_job_file_needs(asked: list[Any], root: Path) -> None:
    flags = ["--cpus", "2", "--gpus", "0.5", "--memory-mb", "512", "--resource", "big=1"]
    more = ["--extra", "s3", "--extra", "onnx", "--env", "A=b", "--detach"]
    file = str(root / "cluster" / "remote.yaml")
    assert main(["submit", "job.py", "--cluster", file, *flags, *more, "--", "--out", "x"]) == 0
    cluster, call = asked
    assert (cluster.address, cluster.driver_cpus, cluster.driver_gpus) == (
        "http://head:8265",
        2,
        0.5,
    )
    assert (cluster.driver_memory_mb, cluster.driver_resources) == (512, {"big": 1.0})
    assert cluster.extras == ("s3", "onnx")
    assert call == ("job.py", ["--out", "x"], {"A": "b"})


def test_the_status_of_the_job_is_the_commands(
    asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "job.py", "--address", "head:8265"]) == 2
    assert main(["logs", "--follow", "job-1", "--address", "head:8265"]) == 2
    assert capsys.readouterr().out == "done\ndone\n"


def test_a_resource_without_a_number_is_one_line(
    asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "job.py", "--address", "head:8265", "--resource", "big=much"]) == 2
    assert "NAME=NUMBER is expected" in capsys.readouterr().err
