from __future__ import annotations

import json
from pathlib import Path

import pytest

from raybert.cli import main


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path))


def test_status_of_nothing_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 3
    assert capsys.readouterr().out.count("stopped") == 3


def test_status_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["ready"] is False
    assert [service["name"] for service in found["services"]] == ["ray", "mlflow", "serve"]


def test_down_of_nothing_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down"]) == 0
    assert capsys.readouterr().out == "nothing runs\n"
