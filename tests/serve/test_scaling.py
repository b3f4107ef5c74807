"""Replicas by tokens, on a real Ray Serve: a second one comes while work waits, and goes again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

TEXTS = ["The blue whale is the largest animal that has ever lived. " * 12] * 24


def running(app: str) -> int:
    from ray import serve

    (stage,) = serve.status().applications[app].deployments.values()
    return int(stage.replica_states.get("RUNNING", 0))


def wait_until(true: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.2)
    return true()


def test_a_replica_comes_while_tokens_wait_and_goes_when_none_do(
    definition: Callable[[str], ModuleType], served: Callable[..., str], minilm: Path
) -> None:
    embed = definition("embed")
    edge: dict[str, Any] = {"replicas": 1, "max_replicas": 2, "tokens_per_replica": 2000}
    edge |= {"upscale_delay_s": 1, "downscale_delay_s": 2, "cpus": 0.5, "threads": 1}
    settings = embed.EmbedApp(models={"minilm": str(minilm)}, edge=edge)
    url = served(embed.build(settings), "scaled", "/scaled")
    enough = threading.Event()
    faults: list[str] = []

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=120) as client:
            while not enough.is_set():
                body = {"model": "minilm", "input": TEXTS}
                reply = client.post(f"{url}/v1/embeddings", json=body)
                if reply.status_code != 200:
                    faults.append(reply.text)

    assert running("scaled") == 1
    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    grown = wait_until(lambda: running("scaled") == 2, 180)
    enough.set()
    for asker in askers:
        asker.join()
    assert grown
    assert not faults
    assert wait_until(lambda: running("scaled") == 1, 120)
