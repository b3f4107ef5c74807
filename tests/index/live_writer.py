"""Writes to a live index in processes that die by kill -9 at a chosen point; a script, no test.

It reads one order a line and forks a process for it, so that a death costs no start of Python. A
process dies at its n-th dangerous call: a write of the log (after half of the bytes), a flush, a
rename, a removal. It prints a line for every change that was acknowledged before.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec.implementations.local  # noqa: F401  before the fork: it takes long
import numpy as np

from raybert.index.live import LiveIndex


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        process = os.fork()
        if not process:
            _die_at(order["dies_at"])
            _write(order)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        _say({"killed": os.WIFSIGNALED(status), "status": status})


def _write(order: dict[str, Any]) -> None:
    try:
        live = LiveIndex(order["root"], seal_rows=None)
        for change in order["changes"]:
            if change["do"] == "upsert":
                vectors = np.array(change["vectors"], dtype=np.float32)
                live.upsert(change["ids"], vectors, change["documents"], model_fingerprint="f1")
            elif change["do"] == "delete":
                live.delete(change["ids"])
            else:
                live.compact(everything=change["everything"])
            _say({"done": change["do"]})
    except Exception as error:  # noqa: BLE001  the parent says it
        _say({"fault": repr(error)})


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _die_at(point: int) -> None:
    """Die at the `point`-th dangerous call from now on, and half-way through a write."""
    calls = 0

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def dangerous(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == point:
                if name == "pwrite":
                    descriptor, data, at = arguments
                    call(descriptor, bytes(data)[: len(data) // 2], at)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return dangerous

    for place, name in ((os, "pwrite"), (os, "fsync"), (Path, "replace"), (shutil, "rmtree")):
        setattr(place, name, counted(name, getattr(place, name)))


if __name__ == "__main__":
    main()
