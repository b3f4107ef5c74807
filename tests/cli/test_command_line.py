from __future__ import annotations

from pathlib import Path

import pytest

from raybert.cli import commands, main


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_commands_are_there() -> None:
    wanted = {"up", "status", "down", "submit", "jobs", "logs", "stop", "lineage", "search", "demo"}
    assert wanted <= commands()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["up", "--auth", "none"], "choose from"),
        (["up", "--ray-port", "many"], "invalid int value: 'many'"),
        (["lineage"], "path"),
        (["lineage", "missing"], "missing"),
        (["search", "missing", "what"], "missing"),
        (["submit", "job.py"], "`raybert up`"),
        (["submit", "job.py", "--env", "KEY"], "KEY=VALUE"),
        (["submit", "job.py", "--address", "http://127.0.0.1:9"], "http://127.0.0.1:9"),
        (["submit", "job.py", "--address", "a:1", "--cluster", "b.yaml"], "give one of them"),
        (["logs"], "no Ray cluster"),
        (["stop", "job", "--cluster", "missing.yaml"], "missing.yaml"),
        (["demo"], "serve/search.yaml: no such file"),
    ],
)
def test_a_users_fault_is_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
