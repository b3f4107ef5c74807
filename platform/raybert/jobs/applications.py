"""Serve applications on the local platform, by the REST interface of Ray's dashboard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from raybert.errors import PlatformError
from raybert.jobs.checkout import checkout_of
from raybert.jobs.state import RayHead
from raybert.settings import read_yaml

APPLICATIONS = "/api/serve/applications/"


@dataclass(frozen=True, slots=True)
class Application:
    """A served application.

    Args:
        name: its name.
        status: Serve's word: NOT_STARTED, DEPLOYING, RUNNING, DEPLOY_FAILED, UNHEALTHY…
        url: where it answers.
        message: what Serve says about it, in one line.
    """

    name: str
    status: str
    url: str
    message: str


def deploy(head: RayHead, config: str | Path, arguments: Mapping[str, Any] | None = None) -> str:
    """Serve the applications of a Serve YAML file, in place of those that run now.

    Args:
        head: the Ray head.
        config: the file, as `serve deploy` takes it; its ports give way to the platform's.
        arguments: values that override `args` of the first application, by dotted name:
            `{"indexes.demo": "out/index"}`.

    Returns:
        the address of the HTTP proxy.

    Raises:
        PlatformError: Serve refused the file.
    """
    body = read_yaml(config)
    served = body.get("applications") or []
    if not served:
        raise PlatformError(f"{config}: no `applications` in this file")
    root = checkout_of(config)
    for application in served:
        variables = application.setdefault("runtime_env", {}).setdefault("env_vars", {})
        variables.setdefault("PYTHONPATH", os.pathsep.join([str(root), str(root / "platform")]))
    for name, value in (arguments or {}).items():
        _set(served[0].setdefault("args", {}), name, value)
    body["http_options"] = {"host": head.host, "port": head.serve_port}
    body["proxy_location"] = "HeadOnly"
    reply = _request(head, "PUT", json=body)
    if not reply.is_success:
        raise PlatformError(f"{config}: Serve refused it: {_last_line(reply.text)}")
    return head.serve_url


def wait_until_served(head: RayHead, within_s: float) -> list[Application]:
    """Wait until every application runs.

    Raises:
        PlatformError: one of them failed, or did not run in time.
    """
    begun = time.monotonic()
    while True:
        served = applications(head)
        if served and all(application.status == "RUNNING" for application in served):
            return served
        failed = [found for found in served if found.status in ("DEPLOY_FAILED", "UNHEALTHY")]
        if failed or time.monotonic() - begun > within_s:
            worst = (failed or served or [Application("serve", "not there", "", "")])[0]
            raise PlatformError(f"application {worst.name}: {worst.status}: {worst.message}")
        time.sleep(0.5)


def applications(head: RayHead) -> list[Application]:
    """Return the applications that Serve knows."""
    reply = _request(head, "GET")
    if not reply.is_success:
        return []
    found: dict[str, dict[str, Any]] = reply.json().get("applications") or {}
    return [
        Application(
            name,
            str(details.get("status", "")),
            f"{head.serve_url}{details.get('route_prefix') or '/'}",
            _last_line(str(details.get("message") or "")),
        )
        for name, details in sorted(found.items())
    ]


def _request(head: RayHead, method: str, json: Any = None) -> httpx.Response:
    try:
        return httpx.request(
            method,
            f"{head.url}{APPLICATIONS}",
            json=json,
            headers=head.headers,
            timeout=60,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise PlatformError(f"Ray at {head.url} does not answer: {error}") from None


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    """Set a value by its dotted name."""
    *path, last = name.split(".")
    for key in path:
        values = values.setdefault(key, {})
    values[last] = value


def _last_line(text: str) -> str:
    """Return the line of a traceback that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
