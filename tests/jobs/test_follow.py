"""Following a job over a connection that breaks; Ray's client is stood in for by a script."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from raybert.errors import InputError, PlatformError
from raybert.jobs import Cluster, Jobs

DONE, RUNNING = "SUCCEEDED", "RUNNING"


class Client:
    """Ray's client, as far as following needs it.

    Args:
        script: what each connection brings: texts, then perhaps a fault.
        statuses: the job's status, or a fault, each time it is asked for.
        whole: the output when the job has ended.
    """

    def __init__(self, script: list[list[Any]], statuses: list[Any], whole: str = "") -> None:
        self.script, self.statuses, self.whole = script, statuses, whole

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for item in self.script.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item

    def get_job_logs(self, job_id: str) -> str:
        return self.whole

    def get_job_info(self, job_id: str) -> Any:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(status, Exception):
            raise status
        return SimpleNamespace(
            submission_id=job_id,
            status=status,
            driver_exit_code=0,
            message="",
            entrypoint="",
            start_time=0,
        )


def follow(monkeypatch: pytest.MonkeyPatch, client: Client, patience_s: float = 60) -> str:
    monkeypatch.setattr("raybert.jobs.submit._connect", lambda address: client)
    monkeypatch.setattr("raybert.jobs.submit.RETRY_S", 0.0)
    monkeypatch.setattr("raybert.jobs.follow.POLL_S", 0.0)
    written: list[str] = []
    Jobs(Cluster(address="http://127.0.0.1:9")).follow("job", written.append, patience_s)
    return "".join(written)


def test_what_was_seen_before_the_break_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broken: list[list[Any]] = [
        ["one\n", "two\n", ConnectionResetError()],
        ["one\ntw", "o\nthree\n"],
    ]
    client = Client(broken, [*[RUNNING] * 5, DONE], "one\ntwo\nthree\nfour\n")
    assert follow(monkeypatch, client) == "one\ntwo\nthree\nfour\n"


def test_the_end_of_the_output_is_told_though_the_tail_lags_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client([["one\n"]], ["PENDING", RUNNING, RUNNING, DONE], "one\ntwo\n")
    assert follow(monkeypatch, client) == "one\ntwo\n"


@pytest.mark.parametrize(
    "fault", [RuntimeError("500"), aiohttp.ServerDisconnectedError(), ConnectionRefusedError()]
)
def test_a_laptop_that_slept_comes_back(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    script: list[list[Any]] = [["one\n", fault], [fault], ["one\n"]]
    away = ConnectionRefusedError()
    client = Client(script, [*[RUNNING] * 4, away, away, *[RUNNING] * 3, DONE], "one\ntwo\n")
    assert follow(monkeypatch, client) == "one\ntwo\n"
    assert not client.script, "it connected three times"


def test_a_cluster_that_stays_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client([], [ConnectionRefusedError("refused")])
    with pytest.raises(PlatformError, match=r"has not answered for 0 s: .*refused"):
        follow(monkeypatch, client, patience_s=0)


def test_a_job_that_a_new_head_does_not_know_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client([["one\n"]], [RuntimeError("Job job does not exist")])
    with pytest.raises(InputError, match="no such job"):
        follow(monkeypatch, client)
