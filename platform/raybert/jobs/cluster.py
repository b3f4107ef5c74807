"""Which Ray cluster a command means: an address, a cluster file, or the local platform."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from raybert.errors import PlatformError, SettingsError
from raybert.jobs.state import PlatformState, RayHead
from raybert.settings import Settings, environment, read_yaml


class Cluster(Settings):
    """A Ray cluster to submit jobs to; the content of a cluster file (`--cluster FILE`)."""

    address: str
    """Address of the cluster's Jobs API, http(s)://HOST:PORT (the port of Ray's dashboard)."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables that every job gets, MLFLOW_TRACKING_URI above all."""
    excludes: tuple[str, ...] = ()
    """Patterns of files in the checkout that are not shipped, beside .gitignore's."""
    driver_cpus: float = 0
    """CPUs reserved for the job file itself; its tasks and actors ask for their own."""
    driver_gpus: float = 0
    """GPUs reserved for the job file itself."""
    driver_memory_mb: int = 0
    """Memory reserved for the job file itself."""
    driver_resources: dict[str, float] = Field(default_factory=dict)
    """Custom resources that the node of the job file must have."""
    extras: tuple[str, ...] = ()
    """Extras of raybert (onnx, peft, s3…) that every node installs for the job, as pinned in the
    checkout's constraints.txt; none where the nodes' image has them."""
    token_file: str | None = None
    """File with the token of a cluster with token authentication; `~` is your home."""

    @property
    def local(self) -> RayHead | None:
        """Return the local platform's Ray head, if this is its address."""
        head = PlatformState.read().ray
        return head if head and head.url == self.address else None


def find_cluster(address: str | None = None, file: str | Path | None = None) -> Cluster:
    """Return the cluster: by its address, by a cluster file, else the running local platform.

    Raises:
        SettingsError: both are given, the address is none, or the file holds something else.
        PlatformError: neither is given and no local platform runs.
    """
    if address and file:
        raise SettingsError("--address and --cluster: give one of them")
    if file:
        return _from_file(file)
    given = address or environment("RAY_API_SERVER_ADDRESS")
    if given:
        return Cluster(address=_http(given))
    head = PlatformState.read().ray
    if head is None:
        raise PlatformError("no Ray cluster: `raybert up` starts one here, --address names another")
    return Cluster(address=head.url)


S = TypeVar("S", bound=Settings)


def settings_from(kind: type[S], file: str | Path, **above: Any) -> S:
    """Read settings from a YAML file; the values of `above` win.

    Raises:
        SettingsError: unknown key, wrong type, missing value, unreadable file; in one line.
    """
    try:
        return kind(**{**read_yaml(file), **above})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        allowed = ", ".join(kind.model_fields)
        raise SettingsError(f"{file}: {key}: {first['msg']} (allowed: {allowed})") from None


def _from_file(file: str | Path) -> Cluster:
    cluster = settings_from(Cluster, file)
    return cluster.model_copy(update={"address": _http(cluster.address)})


def _http(address: str) -> str:
    """Return an address of a Jobs API with its scheme.

    Raises:
        SettingsError: it is not http, https or HOST:PORT.
    """
    full = address if "://" in address else f"http://{address}"
    parts = urlsplit(full)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"--address {address!r}: allowed is http://HOST:8265, Ray's dashboard")
    return full.rstrip("/")
