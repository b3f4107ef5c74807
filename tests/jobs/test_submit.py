from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from raybert.errors import InputError, PlatformError, SettingsError
from raybert.jobs import Cluster, Jobs, PlatformState, find_cluster


@pytest.fixture(scope="module")
def jobs(platform: PlatformState) -> Jobs:
    """The platform here, as `raybert submit` finds it."""
    return Jobs(find_cluster())


@pytest.fixture(scope="module")
def far(platform: PlatformState, jobs: Jobs) -> Jobs:
    """The same cluster by an address that is not the local platform's: the checkout is shipped."""
    assert platform.ray
    return Jobs(Cluster(address=platform.ray.url.replace("127.0.0.1", "localhost")))


def lines(written: list[str], word: str) -> list[str]:
    text = "".join(written)
    return [line.removeprefix(f"{word} ") for line in text.splitlines() if line.startswith(word)]


def test_a_job_here_runs_where_one_stands_and_is_tracked(
    jobs: Jobs, platform: PlatformState, checkout: Path
) -> None:
    written: list[str] = []
    job_id = jobs.submit(checkout / "pipelines/count.py", ["--upto", "10", "--out", "here"], {})
    job = jobs.follow(job_id, written.append)
    assert (job.status, job.code) == ("SUCCEEDED", 0), "".join(written)
    assert lines(written, "total") == ["55"]
    assert lines(written, "driver") == [str(checkout / "platform/raybert/__init__.py")]
    assert platform.mlflow
    client = mlflow.MlflowClient(tracking_uri=platform.mlflow.url)
    experiment = client.get_experiment_by_name("raybert")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`ray.job` = '{job_id}'")
    assert (run.info.status, run.data.metrics["total"]) == ("FINISHED", 55.0)


def test_a_job_elsewhere_runs_in_the_shipped_checkout(far: Jobs, checkout: Path) -> None:
    written: list[str] = []
    arguments = ["--upto", "4", "--out", "file:///nowhere", "--tracking-uri", "none"]
    job_id = far.submit(checkout / "pipelines/count.py", arguments, {})
    job = far.follow(job_id, written.append)
    assert job.status == "SUCCEEDED", "".join(written)
    assert lines(written, "total") == ["10"]
    (driver,), (worker,) = lines(written, "driver"), lines(written, "worker")
    assert "runtime_resources" in driver
    assert driver == worker
    assert far.logs(job_id).count("total 10") == 1


def test_a_fault_of_the_job_is_the_exit_status(jobs: Jobs, checkout: Path) -> None:
    written: list[str] = []
    job_id = jobs.submit(checkout / "pipelines/count.py", ["--upto", "x", "--out", "here"], {})
    job = jobs.follow(job_id, written.append)
    assert (job.status, job.code) == ("FAILED", 2)
    assert len(lines(written, "error:")) == 1
    assert "--upto" in lines(written, "error:")[0]
    assert jobs.last() == job_id


def test_a_job_can_be_stopped(jobs: Jobs, checkout: Path) -> None:
    job_id = jobs.submit(checkout / "pipelines/sleep.py", [], {})
    while "asleep" not in jobs.logs(job_id):
        assert jobs.find(job_id).status in ("PENDING", "RUNNING")
    job = jobs.stop(job_id)
    assert (job.status, job.code) == ("STOPPED", 130)


def test_an_unknown_job_and_a_lost_output_are_one_line(far: Jobs, checkout: Path) -> None:
    with pytest.raises(InputError, match=r"'nobody'.*no such job"):
        far.find("nobody")
    with pytest.raises(SettingsError, match="--out results"):
        far.submit(checkout / "pipelines/count.py", ["--upto", "1", "--out", "results"], {})
    with pytest.raises(SettingsError, match="no such file"):
        far.submit(checkout / "pipelines/missing.py", [], {})


def test_no_cluster_is_one_line() -> None:
    with pytest.raises(PlatformError, match=r"no Ray cluster answers at http://127\.0\.0\.1:9"):
        Jobs(Cluster(address="http://127.0.0.1:9"))
