"""One local platform, on free ports and in a home of its own, for the tests of this room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from raybert.jobs import PlatformSettings, PlatformState, down, up
from raybert.jobs.process import free_port

COUNT = '''
"""Count on a worker, and say whose code it runs."""
import sys
from pathlib import Path

import ray

import raybert
from raybert.settings import JobSettings, run_job
from raybert.tracking import job


class Count(JobSettings):
    """Count."""

    upto: int
    """Last number."""


@ray.remote
def total(upto: int) -> tuple[int, str]:
    return sum(range(upto + 1)), raybert.__file__


def main(settings: Count) -> str:
    ray.init(logging_level="WARNING")
    with job(settings, name="count", kind="count") as run:
        number, worker = ray.get(total.remote(settings.upto))
        run.metric("total", number)
    print("total", number)
    print("driver", raybert.__file__)
    print("worker", worker)
    return settings.out


if __name__ == "__main__":
    run_job(Count, main)
'''


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A small checkout with the library and two job files."""
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "platform", folder / "platform", ignore=ignored)
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "count.py").write_text(COUNT)
    sleep = "import time\nprint('asleep', flush=True)\ntime.sleep(600)\n"
    (folder / "pipelines" / "sleep.py").write_text(sleep)
    return folder


@pytest.fixture(scope="session")
def settings() -> PlatformSettings:
    """Ports that nobody uses."""
    taken: set[int] = set()
    return PlatformSettings(
        ray_port=free_port(taken),
        dashboard_port=free_port(taken),
        mlflow_port=free_port(taken),
        serve_port=free_port(taken),
        cpus=2,
        object_store_mb=200,
        start_within_s=300,
    )


@pytest.fixture(scope="session")
def _started(
    tmp_path_factory: pytest.TempPathFactory, settings: PlatformSettings, ray_token: Path
) -> Iterator[tuple[Path, PlatformState]]:
    home = tmp_path_factory.mktemp("home")
    shutil.copy2(ray_token, home / "ray.token")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBERT_HOME", str(home))
        state = up(settings, lambda line: None)
    yield home, state
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBERT_HOME", str(home))
        down(lambda line: None)


@pytest.fixture(scope="module")
def platform(_started: tuple[Path, PlatformState]) -> Iterator[PlatformState]:
    """A running platform, whose home is this module's."""
    home, state = _started
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBERT_HOME", str(home))
        yield state
