"""How the local platform's services are started and how one knows that they are ready."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

import httpx

from raybert.errors import PlatformError
from raybert.jobs.network import CARD, Network
from raybert.jobs.process import free_port, port_is_taken, start
from raybert.jobs.state import (
    LOOPBACK,
    NodeSettings,
    PlatformSettings,
    RayHead,
    RayNode,
    Service,
)
from raybert.settings import environment, home
from raybert.tracking import artifact_root, database

HEAD = 1
"""The number of the head's host."""


def start_mlflow(settings: PlatformSettings, network: Network | None = None) -> Service:
    """Start the MLflow server on sqlite; it answers some seconds later."""
    host = _address(network)
    _refuse_taken(network, settings.mlflow_port, "--mlflow-port")
    database().parent.mkdir(parents=True, exist_ok=True)
    command = [
        *_inside(network, HEAD),
        *(program("mlflow"), "server", "--workers", "1"),
        *("--host", host, "--port", str(settings.mlflow_port)),
        *("--backend-store-uri", f"sqlite:///{database()}"),
        *("--default-artifact-root", artifact_root(), "--no-serve-artifacts"),
    ]
    if network is not None:
        command += ["--allowed-hosts", f"{host}:*"]
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = start(command, home() / "logs" / "mlflow.log", variables, home())
    return Service(url=mlflow_url(settings, network), process=process)


def start_ray(settings: PlatformSettings, network: Network | None = None) -> RayHead:
    """Start a Ray head; its dashboard answers some seconds later.

    Ray's core listens on all interfaces whatever address it is given, which is why the token is
    the default: the dashboard alone keeps to this machine.
    """
    host = _address(network)
    _refuse_taken(network, settings.ray_port, "--ray-port")
    _refuse_taken(network, settings.dashboard_port, "--dashboard-port")
    _refuse_taken(network, settings.serve_port, "--serve-port")
    folder = _ray_folder(HEAD)
    shutil.rmtree(folder, ignore_errors=True)
    token_file = _token_file() if settings.auth == "token" else ""
    taken = {settings.ray_port, settings.dashboard_port, settings.mlflow_port, settings.serve_port}
    command = [
        *_inside(network, HEAD),
        *(program("ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *("--port", str(settings.ray_port)),
        *("--dashboard-host", host, "--dashboard-port", str(settings.dashboard_port)),
        *("--ray-client-server-port", str(free_port(taken))),
        *("--num-cpus", str(settings.cpus)),
        *_ports_and_folder(network, HEAD, taken),
        *_object_store(settings.object_store_mb),
    ]
    head = {
        "url": f"http://{host}:{settings.dashboard_port}",
        "address": f"{host}:{settings.ray_port}",
        "auth": settings.auth,
        "token_file": token_file,
        "folder": str(folder),
        "serve_port": settings.serve_port,
    }
    variables = _variables(settings, token_file, network)
    if settings.durable:
        _notes().mkdir(parents=True, exist_ok=True)
        variables |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(_notes())}
    process = start(command, home() / "logs" / "ray.log", variables, Path.cwd())
    return RayHead.model_validate({**head, "process": process})


def forget_head() -> None:
    """Remove the notes of a durable head that was stopped: all they tell of has ended with it."""
    if _notes().exists():
        shutil.rmtree(_notes())


def _notes() -> Path:
    return home() / "ray"


def start_node(
    settings: PlatformSettings,
    node: NodeSettings,
    number: int,
    head: RayHead,
    network: Network | None,
) -> RayNode:
    """Start a further Ray node; it joins the head some seconds later."""
    name = f"host{number}-{secrets.token_hex(2)}"
    folder = _ray_folder(number)
    shutil.rmtree(folder, ignore_errors=True)
    taken = {settings.ray_port, settings.dashboard_port, settings.mlflow_port, settings.serve_port}
    pinned = ["taskset", "-c", ",".join(map(str, node.cores))] if node.cores else []
    command = [
        *_inside(network, number),
        *pinned,
        *(program("ray"), "start", "--block", "--disable-usage-stats"),
        *("--address", head.address, "--node-name", name),
        *("--num-cpus", str(node.cpus), "--resources", json.dumps(node.resources)),
        *(() if node.gpus is None else ("--num-gpus", str(node.gpus))),
        *_ports_and_folder(network, number, taken),
        *_object_store(node.object_store_mb or settings.object_store_mb),
    ]
    variables = _variables(settings, head.token_file, network)
    log = home() / "logs" / f"host{number}.log"
    return RayNode(number=number, name=name, process=start(command, log, variables, Path.cwd()))


def mlflow_url(settings: PlatformSettings, network: Network | None = None) -> str:
    """Return the address of the MLflow server."""
    return f"http://{_address(network)}:{settings.mlflow_port}"


def answers(service: Service) -> bool:
    """Say whether a service is ready: MLflow its health page, Ray its Jobs API."""
    headers = service.headers if isinstance(service, RayHead) else {}
    path = "/api/jobs/" if isinstance(service, RayHead) else "/health"
    try:
        reply = httpx.get(f"{service.url}{path}", headers=headers, timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    return reply.is_success


def node_state(head: RayHead, node: RayNode) -> str:
    """Return what the head says of a node: ALIVE, DEAD, or nothing if it does not know it."""
    asked = f"{head.url}/api/v0/nodes?detail=1&limit=1000"
    try:
        reply = httpx.get(asked, headers=head.headers, timeout=5, trust_env=False)
        rows = reply.json()["data"]["result"]["result"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return ""
    return next((str(row["state"]) for row in rows if row["node_name"] == node.name), "")


def wait_until_ready(name: str, service: Service | RayNode, within_s: float, head: RayHead) -> None:
    """Wait for a service to answer, or for a node to join.

    Raises:
        PlatformError: it ended, or did not answer in time; with the end of its log.
    """
    begun = time.monotonic()
    while not _is_ready(service, head):
        waited = time.monotonic() - begun
        if not service.process.alive or waited > within_s:
            fate = "did not answer" if service.process.alive else "ended"
            log = service.process.log
            words = service.process.last_words()
            raise PlatformError(f"{name} {fate} after {waited:.0f} s: {words} (whole log: {log})")
        time.sleep(0.3)


def _is_ready(service: Service | RayNode, head: RayHead) -> bool:
    if isinstance(service, RayNode):
        return node_state(head, service) == "ALIVE"
    return answers(service)


def program(name: str) -> str:
    """Return a program of the environment that this Python belongs to."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def _refuse_taken(network: Network | None, port: int, flag: str) -> None:
    if network is None and port_is_taken(port):
        raise PlatformError(f"port {port} is taken by another program; give another by {flag}")


def _address(network: Network | None) -> str:
    return network.address(HEAD) if network else LOOPBACK


def _inside(network: Network | None, host: int) -> list[str]:
    return network.inside(host) if network else []


def _ports_and_folder(network: Network | None, host: int, taken: set[int]) -> list[str]:
    """Return the flags that keep two nodes on one machine apart."""
    where = ["--node-ip-address", network.address(host)] if network else []
    return [
        *where,
        *("--dashboard-agent-listen-port", str(free_port(taken))),
        *("--metrics-export-port", str(free_port(taken))),
        *("--temp-dir", str(_ray_folder(host))),
    ]


def _object_store(megabytes: int | None) -> list[str]:
    return ["--object-store-memory", str(megabytes * 1024 * 1024)] if megabytes else []


def _variables(
    settings: PlatformSettings, token_file: str, network: Network | None
) -> dict[str, str]:
    """Return the variables of a Ray node, which the jobs on it have too."""
    # Gloo looks up the machine's name, which is no address of a host in a namespace.
    card = {"GLOO_SOCKET_IFNAME": CARD} if network else {}
    return {
        **card,
        "RAY_AUTH_MODE": settings.auth,
        "RAY_AUTH_TOKEN_PATH": token_file,
        "RAYBERT_HOME": str(home()),
        "MLFLOW_TRACKING_URI": mlflow_url(settings, network),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment('PATH', os.defpath)}",
    }


def _ray_folder(host: int) -> Path:
    """Return a folder whose name is short: sockets in it must stay under 107 characters."""
    digest = hashlib.sha256(str(home()).encode()).hexdigest()[:8]
    suffix = "" if host == HEAD else f"-{host}"
    return Path(tempfile.gettempdir()) / f"raybert-{digest}{suffix}"


def _token_file() -> str:
    """Return the file of the platform's token, readable by its owner alone."""
    file = home() / "ray.token"
    if not file.exists():
        home().mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(24), encoding="utf-8")
    return str(file)
