from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from raybert.tracking.notes import Note, Spool
from raybert.tracking.run import Run
from raybert.tracking.store import Status


class Server:
    """A tracking server that can go away, come back and refuse."""

    uri = "http://127.0.0.1:1"

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.status: Status | None = None
        self.away = False
        self.refuses = False

    def send(self, run_id: str, notes: Sequence[Note]) -> None:
        if self.away or self.refuses:
            raise ConnectionError("the server is away")
        self.notes += notes

    def file(self, run_id: str, path: Path, folder: str | None) -> None:
        self.send(run_id, [])

    def end(self, run_id: str, status: Status) -> None:
        self.send(run_id, [])
        self.status = status

    def refused(self, error: Exception) -> bool:
        return self.refuses


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path))
    return Server()


def said(server: Server) -> list[tuple[str, float]]:
    return [(note.name, float(note.value)) for note in server.notes]


def test_a_server_away_for_a_while_loses_nothing(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(server, "abc")
    run.metric("loss", 3.0)
    assert run.flush()
    server.away = True
    for loss in (2.0, 1.0):
        run.metric("loss", loss)
        assert not run.flush()
    run.artifact("report.md")
    server.away = False
    run.metric("loss", 0.0)
    run.end("FINISHED")
    assert said(server) == [("loss", 3.0), ("loss", 2.0), ("loss", 1.0), ("loss", 0.0)]
    assert server.status == "FINISHED"
    assert Spool.left(server.uri) == []
    assert capsys.readouterr().err.count("tracking:") == 1


def test_what_a_server_never_took_is_kept_on_disk(server: Server) -> None:
    server.away = True
    run = Run(server, "abc")
    run.metric("loss", 2.0)
    run.end("FAILED")
    (spool,) = Spool.left(server.uri)
    assert spool.run_id == "abc"
    assert [(note.kind, note.value) for note in spool.notes()] == [
        ("metric", 2.0),
        ("tag", "FAILED"),
    ]
    assert Spool.left("http://another:1") == []


def test_a_line_cut_short_by_a_crash_is_passed_over(server: Server) -> None:
    spool = Spool.of("abc", server.uri)
    spool.keep([Note("metric", "loss", 1.0)])
    with spool.path.open("a") as file:
        file.write('{"kind": "metric", "na')
    assert [note.name for note in spool.notes()] == ["loss"]


def test_a_note_the_server_refuses_does_not_hold_up_the_others(server: Server) -> None:
    run = Run(server, "abc")
    server.refuses = True
    run.metric("loss", 2.0)
    assert run.flush()
    server.refuses = False
    run.metric("loss", 1.0)
    run.end("FINISHED")
    assert said(server) == [("loss", 1.0)]
