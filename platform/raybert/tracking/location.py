"""Where runs are recorded: the flag, the environment, the running platform, a local file."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raybert.settings import environment, home

NOTHING = "none"
"""The tracking URI that records nothing."""


def platform_file() -> Path:
    """Return the file in which the running local platform says what it started."""
    return home() / "platform.json"


def database() -> Path:
    """Return the sqlite file that the local platform's server, or a job alone, records into."""
    return home() / "mlflow" / "mlflow.db"


def artifact_root() -> str:
    """Return the folder in which the local platform keeps the files that runs log, as a URI."""
    return (home() / "mlflow" / "artifacts").as_uri()


def tracking_uri(explicit: str | None = None) -> str:
    """Return where to record: the explicit URI, MLFLOW_TRACKING_URI, the platform's, a file."""
    given = explicit or environment("MLFLOW_TRACKING_URI") or _platform_server()
    return given or f"sqlite:///{database()}"


def page(server: str, path: str = "") -> str:
    """Return a page of a server's experiments; it opens on runs, not on traces of chat models."""
    return f"{server.rstrip('/')}/#/experiments{path}?workflowType=machine_learning"


def _platform_server() -> str | None:
    """Return the address of the running local platform's MLflow server, if it answers."""
    try:
        state: dict[str, Any] = json.loads(platform_file().read_text(encoding="utf-8"))
        uri = str(state["mlflow"]["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return uri if answers(uri) else None


def answers(uri: str, timeout_s: float = 2.0) -> bool:
    """Say whether something accepts connections at an HTTP address."""
    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=timeout_s):
            return True
    except OSError:
        return False
