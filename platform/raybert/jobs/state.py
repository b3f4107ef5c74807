"""What the local platform consists of, and the file that says what is running."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from raybert.devices import cpu_count
from raybert.jobs.network import Network
from raybert.jobs.process import Process, free_port, port_is_taken
from raybert.settings import Settings, home
from raybert.tracking import platform_file

Authentication = Literal["token", "disabled"]
LOOPBACK = "127.0.0.1"


class NodeSettings(Settings):
    """A further Ray node of the platform, beside its head."""

    cpus: int = Field(1, ge=0)
    """Logical CPUs."""
    gpus: int | None = Field(None, ge=0)
    """Logical GPUs; default: those that Ray finds."""
    object_store_mb: int | None = Field(None, ge=80)
    """Memory of its object store in MB; default: the head's."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom resources, for jobs that ask for this node."""
    cores: tuple[int, ...] = ()
    """Cores of this machine that it is pinned to; default: all."""


class PlatformSettings(Settings):
    """The local platform: a Ray head, an MLflow server and, if wanted, a Serve application."""

    ray_port: int = 6379
    """Port of the Ray head, to which drivers and further nodes connect."""
    dashboard_port: int = 8265
    """Port of Ray's dashboard and Jobs API, on 127.0.0.1."""
    mlflow_port: int = 5000
    """Port of the MLflow server, on 127.0.0.1."""
    serve_port: int = 8000
    """Port of Serve's HTTP proxy, on 127.0.0.1."""
    cpus: int = max(4, cpu_count() + 2)
    """Logical CPUs of the Ray head: two above the cores, so that served replicas leave room."""
    object_store_mb: int | None = None
    """Memory of Ray's object store in MB; Ray takes 30% of the machine's by default."""
    auth: Authentication = "token"
    """Who may use Ray: whoever has the platform's token, or everybody who reaches its ports."""
    start_within_s: float = 180.0
    """Seconds a service has to answer before starting it counts as failed."""
    nodes: tuple[NodeSettings, ...] = ()
    """Further Ray nodes."""
    network: Literal["shared", "namespaces"] = "shared"
    """All nodes on 127.0.0.1, or each in a network namespace, as hosts are (needs root)."""
    durable: bool = False
    """Keep Ray's notes of jobs, actors and nodes on disk, so that a head that died is taken up
    again by its nodes when `up` starts it anew; `down` removes them."""

    def on_free_ports(self) -> PlatformSettings:
        """Return the same with another port for each that another program has taken."""
        names = ("ray_port", "dashboard_port", "mlflow_port", "serve_port")
        taken = {getattr(self, name) for name in names}
        return self.model_copy(
            update={n: free_port(taken) for n in names if port_is_taken(getattr(self, n))}
        )


class Service(Settings):
    """A running service."""

    url: str
    """Address of its page and API."""
    process: Process
    """The process to stop."""


class RayHead(Service):
    """A running Ray head."""

    address: str
    """Address that `ray.init` takes, HOST:PORT."""
    auth: Authentication
    """How it recognises its users."""
    token_file: str
    """File with the token; empty where none is asked for."""
    folder: str
    """Ray's folder for sockets and session logs."""
    serve_port: int
    """Port that Serve's HTTP proxy listens on once an application runs."""

    @property
    def host(self) -> str:
        """Return the address that the head's services listen on."""
        return self.address.rpartition(":")[0]

    @property
    def serve_url(self) -> str:
        """Return where Serve answers."""
        return f"http://{self.host}:{self.serve_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which a process may use this Ray."""
        variables = {"RAY_AUTH_MODE": self.auth, "RAY_USAGE_STATS_ENABLED": "0"}
        if self.token_file:
            variables["RAY_AUTH_TOKEN_PATH"] = self.token_file
        return variables

    @property
    def headers(self) -> dict[str, str]:
        """Return the HTTP headers with which the dashboard's API may be used."""
        if not self.token_file:
            return {}
        return {"Authorization": f"Bearer {Path(self.token_file).read_text().strip()}"}


class RayNode(Settings):
    """A running Ray node beside the head."""

    number: int
    """Its number; the head is 1."""
    name: str
    """Its name in Ray's lists; another one each time it is started."""
    process: Process
    """The process to stop."""


class PlatformState(Settings):
    """What `raybert up` started; the file lies in the platform's home."""

    ray: RayHead | None = None
    """The Ray head."""
    mlflow: Service | None = None
    """The MLflow server."""
    nodes: tuple[RayNode, ...] = ()
    """Further Ray nodes."""
    network: Network | None = None
    """The network of its hosts, where they have one."""

    @classmethod
    def read(cls) -> PlatformState:
        """Return what is there; a service or node whose process is gone is left out."""
        try:
            state = cls.model_validate_json(platform_file().read_bytes())
        except (OSError, ValidationError):
            return cls()
        ray = state.ray if state.ray and state.ray.process.alive else None
        mlflow = state.mlflow if state.mlflow and state.mlflow.process.alive else None
        nodes = tuple(node for node in state.nodes if node.process.alive)
        network = state.network if state.network and state.network.exists else None
        return cls(ray=ray, mlflow=mlflow, nodes=nodes, network=network)

    def write(self) -> None:
        """Write the file, or remove it when nothing runs."""
        if self == PlatformState():
            platform_file().unlink(missing_ok=True)
            return
        home().mkdir(parents=True, exist_ok=True)
        temporary = platform_file().with_suffix(".tmp")
        temporary.write_text(self.model_dump_json(indent=2), encoding="utf-8")
        temporary.replace(platform_file())


@contextmanager
def platform_lock() -> Iterator[None]:
    """Let one command at a time start or stop the platform of this home."""
    home().mkdir(parents=True, exist_ok=True)
    handle = os.open(home() / "platform.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
