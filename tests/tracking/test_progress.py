"""How far a job has come: lines in a log, a bar on a terminal."""

import os
import pty
import subprocess
import sys
import time

import pytest

from raybert.tracking import JobProgress


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with JobProgress("train", 1200, "steps") as shown:
        for step in (1, 2, 3, 1200):
            shown.reached(step, f"loss [{step}]")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["train 2 of 1,200 steps  loss [2]", "train 1,200 of 1,200 steps  loss [1200]"]


def test_what_is_counted_is_shown_with_its_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((100.0, 110.0, 110.0, 120.0, 120.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with JobProgress("search", 5_000, "queries", done=1_000) as shown:
        shown.advance(2_000)
        shown.advance(2_000)
    line = "search 5,000 of 5,000 queries  200 queries/s"
    assert capsys.readouterr().err.splitlines() == [line]


def test_of_several_processes_one_shows(capsys: pytest.CaptureFixture[str]) -> None:
    with JobProgress("train", 2, "steps", show=False) as shown:
        shown.reached(2, "")
    assert capsys.readouterr() == ("", "")


def test_the_rate_counts_what_this_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 104.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert JobProgress("encode", 100, "rows", done=40).rate(60) == 5


def test_a_terminal_has_a_bar() -> None:
    code = (
        "from raybert.tracking import JobProgress\n"
        "with JobProgress('encode', 8, 'rows', done=4) as shown:\n"
        "    shown.reached(8, '12 rows/s')\n"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        stderr=theirs,
        stdout=subprocess.PIPE,
        check=True,
    )
    os.close(theirs)
    seen = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.stdout == b""
    for shown in ("8/8", "12 rows/s", "━"):
        assert shown in seen
    assert "encode 8 of 8" not in seen
