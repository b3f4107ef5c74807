from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from raybert.tracking import platform_file, tracking_uri


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_the_flag_wins_over_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment:5000")
    assert tracking_uri("none") == "none"
    assert tracking_uri(None) == "http://environment:5000"


def test_a_running_platform_is_found_and_a_dead_one_is_not(home: Path) -> None:
    alone = f"sqlite:///{home}/mlflow/mlflow.db"
    assert tracking_uri() == alone
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        platform_file().write_text(json.dumps({"mlflow": {"url": url}}))
        assert tracking_uri() == url
    assert tracking_uri() == alone


def test_a_damaged_platform_file_is_no_platform(home: Path) -> None:
    platform_file().write_text("{")
    assert tracking_uri() == f"sqlite:///{home}/mlflow/mlflow.db"
