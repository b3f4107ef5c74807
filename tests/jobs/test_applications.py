from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from raybert.errors import PlatformError
from raybert.jobs import RayHead, applications, deploy, wait_until_served
from raybert.jobs.process import Process


class Dashboard(HTTPServer):
    """The part of Ray's dashboard that deploys applications."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.deployed: dict[str, Any] = {}
        self.token = ""
        self.refusal = ""
        self.found: dict[str, Any] = {}


class Handler(BaseHTTPRequestHandler):
    server: Dashboard

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.deployed = json.loads(self.rfile.read(length))
        self.server.token = self.headers["Authorization"]
        self._answer(400 if self.server.refusal else 200, self.server.refusal)

    def do_GET(self) -> None:
        self._answer(200, json.dumps({"applications": self.server.found}))

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    with Dashboard() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def head(dashboard: Dashboard, tmp_path: Path) -> RayHead:
    (tmp_path / "ray.token").write_text("secret")
    return RayHead(
        url=f"http://127.0.0.1:{dashboard.server_port}",
        process=Process(pid=1, born=0, log=""),
        address="127.0.0.1:1",
        auth="token",
        token_file=str(tmp_path / "ray.token"),
        folder="",
        serve_port=8123,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "platform" / "raybert").mkdir(parents=True)
    file = tmp_path / "serve" / "app.yaml"
    file.parent.mkdir()
    file.write_text("""
http_options: {host: 0.0.0.0, port: 8000}
applications:
  - name: search
    import_path: serve.app:build
    args: {models: {minilm: hub/name}, together: true}
""")
    return file


def test_the_file_is_deployed_with_the_platforms_port_and_the_values_given(
    dashboard: Dashboard, head: RayHead, config: Path, tmp_path: Path
) -> None:
    values = {"models.minilm": "here", "indexes.demo": "out/index"}
    assert deploy(head, config, values) == "http://127.0.0.1:8123"
    assert dashboard.token == "Bearer secret"
    assert dashboard.deployed["http_options"] == {"host": "127.0.0.1", "port": 8123}
    (application,) = dashboard.deployed["applications"]
    assert application["args"] == {
        "models": {"minilm": "here"},
        "together": True,
        "indexes": {"demo": "out/index"},
    }
    assert application["runtime_env"] == {
        "env_vars": {"PYTHONPATH": f"{tmp_path}:{tmp_path / 'platform'}"}
    }


def test_a_refusal_is_one_line(dashboard: Dashboard, head: RayHead, config: Path) -> None:
    dashboard.refusal = "Traceback:\n  File x\nValueError: no such field"
    with pytest.raises(PlatformError, match=r"app\.yaml: Serve refused it: ValueError: no such"):
        deploy(head, config)
    config.write_text("applications: []")
    with pytest.raises(PlatformError, match="no `applications`"):
        deploy(head, config)


def test_an_application_that_fails_says_why(dashboard: Dashboard, head: RayHead) -> None:
    dashboard.found = {
        "search": {"status": "DEPLOY_FAILED", "message": "Traceback\nModelError: no such folder"}
    }
    (found,) = applications(head)
    assert (found.name, found.url) == ("search", "http://127.0.0.1:8123/")
    with pytest.raises(PlatformError, match="search: DEPLOY_FAILED: ModelError: no such folder"):
        wait_until_served(head, within_s=5)


def test_a_dashboard_that_is_gone_is_one_line(head: RayHead) -> None:
    with pytest.raises(PlatformError, match="does not answer"):
        applications(head.model_copy(update={"url": "http://127.0.0.1:9"}))
