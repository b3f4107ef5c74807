"""A real MLflow server that goes away in the middle of a job and comes back."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import pytest

from raybert.settings import JobSettings
from raybert.tracking import Registry, Run, job
from raybert.tracking.notes import Spool


class Server:
    """`mlflow server` on sqlite, started and killed at will."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "mlflow"), "server", "--workers", "1"]
        command += ["--port", str(self.port), "--host", "127.0.0.1"]
        command += ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBERT_HOME", str(folder / "home"))
        patch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        started = Server(folder)
        started.start()
        yield started
        started.stop()
        mlflow.set_tracking_uri(None)


def test_a_job_outlives_its_server_and_the_next_job_sends_its_log(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").touch()
    settings = JobSettings(out="out", tracking_uri=server.url, experiment="tests")
    with job(settings, name="first", kind="try") as first:
        first.metric("loss", 2.0, step=0)
        assert first.flush()
        server.stop()
        first.metric("loss", 1.0, step=1)
        assert not first.flush()
        first.artifact(tmp_path / "log")
    assert [spool.run_id for spool in Spool.left(server.url)] == [first.run_id]
    assert capsys.readouterr().err.count("tracking:") == 1

    server.start()
    client = mlflow.MlflowClient(tracking_uri=server.url)
    assert client.get_run(str(first.run_id)).info.status == "RUNNING"
    with job(settings, name="second", kind="try") as second:
        second.artifact(tmp_path / "log")
    assert losses(client, first) == [(0, 2.0), (1, 1.0)]
    assert client.get_run(str(first.run_id)).info.status == "FINISHED"
    assert client.get_run(str(second.run_id)).info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(str(second.run_id))] == ["log"]
    assert Spool.left(server.url) == []


def test_a_model_is_registered_and_fetched(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "modules.json").write_text("[]")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    registry = Registry(server.url)
    registry.register("encoder", folder, metrics={"ndcg@10": 0.5})
    registry.promote("encoder", 1)
    fetched = registry.fetch("encoder", "champion")
    assert fetched != folder
    assert sorted(path.name for path in fetched.rglob("*") if path.is_file()) == [
        "config.json",
        "modules.json",
    ]
    assert registry.find("encoder", "champion").metrics == {"ndcg_at_10": 0.5}


def losses(client: mlflow.MlflowClient, run: Run) -> list[tuple[int, float]]:
    history = client.get_metric_history(str(run.run_id), "loss")
    return [(metric.step, metric.value) for metric in history]
