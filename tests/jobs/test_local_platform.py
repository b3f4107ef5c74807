from __future__ import annotations

import json
import socket
from pathlib import Path

import httpx
import psutil
import pytest

from raybert.errors import PlatformError
from raybert.jobs import PlatformSettings, PlatformState, down, status, up


def test_up_starts_ray_and_mlflow_and_says_where(platform: PlatformState) -> None:
    assert {service.name: service.state for service in status()} == {
        "ray": "ready",
        "mlflow": "ready",
        "serve": "no application",
    }
    assert platform.ray
    assert platform.mlflow
    assert httpx.get(f"{platform.mlflow.url}/health").text == "OK"


def test_ray_wants_the_token(platform: PlatformState) -> None:
    assert platform.ray
    jobs = f"{platform.ray.url}/api/jobs/"
    assert httpx.get(jobs).status_code == 401
    assert httpx.get(jobs, headers={"Authorization": "Bearer wrong"}).status_code == 403
    assert httpx.get(jobs, headers=platform.ray.headers).status_code == 200
    assert Path(platform.ray.token_file).stat().st_mode & 0o077 == 0


def test_dashboard_and_mlflow_listen_on_this_machine_only(platform: PlatformState) -> None:
    assert platform.ray
    assert platform.mlflow
    urls = {platform.ray.url, platform.mlflow.url}
    ports = {int(url.rpartition(":")[2]) for url in urls}
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports
    }
    assert listening == {("127.0.0.1", port) for port in ports}


def test_up_again_starts_nothing(platform: PlatformState, settings: PlatformSettings) -> None:
    said: list[str] = []
    assert up(settings, said.append) == platform
    assert all("runs already" in line for line in said)
    assert len(said) == 2


def test_a_taken_port_is_one_line_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PlatformError, match=f"port {port} is taken.*--mlflow-port"):
            up(PlatformSettings(mlflow_port=port), lambda line: None)
    assert not (tmp_path / "platform.json").exists()


def test_down_stops_all_it_started_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path))
    bystander = psutil.Popen(["sleep", "60"], start_new_session=True)
    children = [psutil.Popen(["sh", "-c", "sleep 61 & sleep 62"], start_new_session=True)]
    (shell,) = children
    while len(family := [shell, *shell.children()]) < 3:
        continue
    service = {
        "url": "http://127.0.0.1:9",
        "process": {"pid": shell.pid, "born": shell.create_time(), "log": ""},
    }
    (tmp_path / "platform.json").write_text(json.dumps({"mlflow": service}))
    (tmp_path / "ray" / "kv").mkdir(parents=True)
    said: list[str] = []
    down(said.append)
    assert said == ["MLflow  stopped"]
    assert not (tmp_path / "ray").exists(), "a durable head's notes end with it"
    assert [
        member for member in family if member.is_running() and member.status() != "zombie"
    ] == []
    assert bystander.is_running()
    bystander.kill()
    bystander.wait()


def test_a_process_that_took_over_a_number_is_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path))
    bystander = psutil.Popen(["sleep", "60"])
    service = {
        "url": "http://127.0.0.1:9",
        "process": {"pid": bystander.pid, "born": bystander.create_time() - 100, "log": ""},
    }
    (tmp_path / "platform.json").write_text(json.dumps({"mlflow": service}))
    said: list[str] = []
    down(said.append)
    assert said == ["nothing runs"]
    assert bystander.is_running()
    bystander.kill()
    bystander.wait()
