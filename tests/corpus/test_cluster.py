"""What a job hears of the cluster it joins."""

import os
import time
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from raybert.corpus.cluster import OWN_RAY, connect, say_if_full


@pytest.mark.usefixtures("ray_session")
def test_a_job_is_told_that_no_cpu_is_free(capsys: pytest.CaptureFixture[str]) -> None:
    said = f"Ray: none of {ray.cluster_resources()['CPU']:g} CPUs is free now; what needs one waits"
    held = placement_group([{"CPU": ray.available_resources()["CPU"]}])
    try:
        ray.get(held.ready(), timeout=120)
        until = time.monotonic() + 60
        while ray.available_resources().get("CPU") and time.monotonic() < until:
            time.sleep(0.1)  # the cluster's books follow a little later
        say_if_full()
    finally:
        remove_placement_group(held)
    assert capsys.readouterr().out.splitlines() == [said]


def test_a_ray_of_its_own_keeps_no_metrics_but_what_the_user_set_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray itself is not started here: what it reads is the environment at that moment."""
    for name in ("RAY_ADDRESS", *OWN_RAY):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("REPORTER_UPDATE_INTERVAL_MS", "700")
    started: list[dict[str, str]] = []

    def start(**_: Any) -> None:
        started.append({name: os.environ[name] for name in OWN_RAY})

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    connect(train=True)
    assert started == [{**OWN_RAY, "REPORTER_UPDATE_INTERVAL_MS": "700"}]
