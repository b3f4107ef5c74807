"""Processes that outlive the command that started them: start, find again, stop."""

from __future__ import annotations

import random
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from raybert.errors import PlatformError
from raybert.settings import Settings, process_environment

STOP_WITHIN_S = 20.0
"""Seconds a process has between being asked to end and being killed."""


class Process(Settings):
    """A process that was started, recognised by its number and when it was born."""

    pid: int
    """Process id; also the id of the session it leads."""
    born: float
    """Seconds since the epoch: another process with the same id was born at another time."""
    log: str
    """File that takes what it prints."""

    @property
    def alive(self) -> bool:
        """Say whether it is still running."""
        return self._find() is not None

    def stop(self) -> None:
        """Ask it and all it started to end; kill what is left."""
        leader = self._find()
        if leader is None:
            return
        family = [*leader.children(recursive=True), leader]
        _each([leader], "terminate")
        psutil.wait_procs([leader], timeout=STOP_WITHIN_S)
        _, left = psutil.wait_procs(family, timeout=1)
        _each(left, "terminate")
        _, left = psutil.wait_procs(left, timeout=3)
        _each(left, "kill")
        psutil.wait_procs(left, timeout=5)

    def kill(self) -> None:
        """End it and all it started at once, as a power cut does."""
        leader = self._find()
        if leader is None:
            return
        family = [leader, *leader.children(recursive=True)]
        _each(family, "kill")
        psutil.wait_procs(family, timeout=10)

    def last_words(self, lines: int = 3) -> str:
        """Return the end of its log in one line."""
        try:
            text = Path(self.log).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return " ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())

    def _find(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.born) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def _each(processes: Sequence[psutil.Process], call: str) -> None:
    """Signal processes, some of which may be gone already."""
    for process in processes:
        try:
            getattr(process, call)()
        except psutil.NoSuchProcess:
            continue


def start(
    command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path
) -> Process:
    """Start a command in a session of its own, so that Ctrl-C here does not reach it.

    Raises:
        PlatformError: the program is not there.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        try:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=process_environment(**environment),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise PlatformError(f"{command[0]} cannot be started: {error.strerror}") from None
    return Process(pid=child.pid, born=psutil.Process(child.pid).create_time(), log=str(log))


def free_port(taken: set[int]) -> int:
    """Return a port nobody listens on, outside the range that Ray gives to its workers."""
    # Two platforms that start at one time must not look for ports in the same order.
    for port in random.sample(range(20002, 32000), 1000):
        if port not in taken and not port_is_taken(port):
            taken.add(port)
            return port
    raise PlatformError("no free port between 20002 and 32000")


def port_is_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether somebody listens on a port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
