"""How the local platform's services are started and how one knows that they are ready."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

import httpx

from raybert.errors import PlatformError
from raybert.jobs.process import free_port, port_is_taken, start
from raybert.jobs.state import PlatformSettings, RayHead, Service
from raybert.settings import environment, home
from raybert.tracking import artifact_root, database

HOST = "127.0.0.1"


def start_mlflow(settings: PlatformSettings) -> Service:
    """Start the MLflow server on sqlite; it answers some seconds later."""
    _refuse_taken(settings.mlflow_port, "--mlflow-port")
    database().parent.mkdir(parents=True, exist_ok=True)
    command = [
        *(program("mlflow"), "server", "--workers", "1"),
        *("--host", HOST, "--port", str(settings.mlflow_port)),
        *("--backend-store-uri", f"sqlite:///{database()}"),
        *("--default-artifact-root", artifact_root(), "--no-serve-artifacts"),
    ]
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = start(command, home() / "logs" / "mlflow.log", variables, home())
    return Service(url=mlflow_url(settings), process=process)


def start_ray(settings: PlatformSettings) -> RayHead:
    """Start a Ray head; its dashboard answers some seconds later.

    Ray's core listens on all interfaces whatever address it is given, which is why the token is
    the default: the dashboard alone keeps to this machine.
    """
    _refuse_taken(settings.ray_port, "--ray-port")
    _refuse_taken(settings.dashboard_port, "--dashboard-port")
    _refuse_taken(settings.serve_port, "--serve-port")
    folder = _ray_folder()
    shutil.rmtree(folder, ignore_errors=True)
    token_file = _token_file() if settings.auth == "token" else ""
    taken = {settings.ray_port, settings.dashboard_port, settings.mlflow_port, settings.serve_port}
    command = [
        *(program("ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *("--port", str(settings.ray_port)),
        *("--dashboard-host", HOST, "--dashboard-port", str(settings.dashboard_port)),
        *("--dashboard-agent-listen-port", str(free_port(taken))),
        *("--ray-client-server-port", str(free_port(taken))),
        *("--metrics-export-port", str(free_port(taken))),
        *("--num-cpus", str(settings.cpus), "--temp-dir", str(folder)),
    ]
    if settings.object_store_mb:
        command += ["--object-store-memory", str(settings.object_store_mb * 1024 * 1024)]
    head = {
        "url": f"http://{HOST}:{settings.dashboard_port}",
        "address": f"{HOST}:{settings.ray_port}",
        "auth": settings.auth,
        "token_file": token_file,
        "folder": str(folder),
        "serve_port": settings.serve_port,
    }
    variables = {
        "RAY_AUTH_MODE": settings.auth,
        "RAY_AUTH_TOKEN_PATH": token_file,
        "RAYBERT_HOME": str(home()),
        "MLFLOW_TRACKING_URI": mlflow_url(settings),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment('PATH', os.defpath)}",
    }
    process = start(command, home() / "logs" / "ray.log", variables, Path.cwd())
    return RayHead.model_validate({**head, "process": process})


def mlflow_url(settings: PlatformSettings) -> str:
    """Return the address of the MLflow server."""
    return f"http://{HOST}:{settings.mlflow_port}"


def answers(service: Service) -> bool:
    """Say whether a service is ready: MLflow its health page, Ray its Jobs API."""
    headers = service.headers if isinstance(service, RayHead) else {}
    path = "/api/jobs/" if isinstance(service, RayHead) else "/health"
    try:
        reply = httpx.get(f"{service.url}{path}", headers=headers, timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    return reply.is_success


def wait_until_ready(name: str, service: Service, within_s: float) -> float:
    """Wait for a service.

    Returns:
        the seconds it took.

    Raises:
        PlatformError: it ended, or did not answer in time; with the end of its log.
    """
    begun = time.monotonic()
    while not answers(service):
        waited = time.monotonic() - begun
        if not service.process.alive or waited > within_s:
            fate = "did not answer" if service.process.alive else "ended"
            log = service.process.log
            words = service.process.last_words()
            raise PlatformError(f"{name} {fate} after {waited:.0f} s: {words} (whole log: {log})")
        time.sleep(0.3)
    return time.monotonic() - begun


def program(name: str) -> str:
    """Return a program of the environment that this Python belongs to."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def _refuse_taken(port: int, flag: str) -> None:
    if port_is_taken(port):
        raise PlatformError(f"port {port} is taken by another program; give another by {flag}")


def _ray_folder() -> Path:
    """Return a folder whose name is short: sockets in it must stay under 107 characters."""
    digest = hashlib.sha256(str(home()).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"raybert-{digest}"


def _token_file() -> str:
    """Return the file of the platform's token, readable by its owner alone."""
    file = home() / "ray.token"
    if not file.exists():
        home().mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(24), encoding="utf-8")
    return str(file)
