"""What a job hears of the cluster it joins."""

import time

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from raybert.corpus.cluster import say_if_full


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
