"""Pushing to a hub: a small server on this machine stands in for it, nothing leaves."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from raybert import DenseEncoder
from raybert.errors import PlatformError
from raybert.modules import Normalize, Pooling, Transformer

Hub = tuple[str, dict[str, bytes], dict[str, Any]]


class Handler(BaseHTTPRequestHandler):
    """Creates a repository, asks for every file as it is, takes one commit."""

    files: dict[str, bytes]
    seen: dict[str, Any]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen["token"] = self.headers.get("Authorization")
        if "/preupload/" in self.path:
            wanted = json.loads(body)["files"]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            self._answer({"files": [{"path": file["path"], **plain} for file in wanted]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.files[line["value"]["path"]] = content
                else:
                    self.seen["commit"] = line["value"]
            address = f"http://{self.headers['Host']}/owner/tiny/commit/1"
            self._answer({"success": True, "commitUrl": address, "commitOid": "1"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            self.seen["repository"] = json.loads(body)
            name = "owner/" + self.seen["repository"]["name"]
            address = f"http://{self.headers['Host']}/{name}"
            if self.seen["repository"]["name"] == "taken":
                self._answer({"error": "You already created this model repo"}, 409)
            else:
                self._answer({"url": address, "name": name, "id": "1"})
        else:
            self._answer({"error": f"unknown {self.path}"}, 404)

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    files: dict[str, bytes] = {}
    seen: dict[str, Any] = {}
    handler = type("Own", (Handler,), {"files": files, "seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files, seen
    server.shutdown()
    server.server_close()


@pytest.fixture
def encoder(small: Callable[[str], Path]) -> DenseEncoder:
    transformer = Transformer.open(small("bert"))
    return DenseEncoder([transformer, Pooling(48), Normalize()], device="cpu")


def test_what_is_pushed_opens_again(
    hub: Hub, encoder: DenseEncoder, tmp_path: Path, texts: list[str]
) -> None:
    endpoint, files, seen = hub
    url = encoder.push_to_hub("owner/tiny", token="hf_secret", private=True, endpoint=endpoint)
    assert url == f"{endpoint}/owner/tiny/commit/1"
    assert seen["repository"]["name"] == "tiny"
    assert seen["repository"]["visibility"] == "private"
    assert seen["token"] == "Bearer hf_secret"
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    assert b"# tiny" in files["README.md"]
    again = DenseEncoder(tmp_path, device="cpu")
    assert again.encode(texts).tobytes() == encoder.encode(texts).tobytes()


def test_a_repository_that_is_there(hub: Hub, encoder: DenseEncoder) -> None:
    with pytest.raises(
        PlatformError, match=r"repository 'owner/taken': the hub says: .*409"
    ) as hit:
        encoder.push_to_hub("owner/taken", token="hf_secret", endpoint=hub[0])
    assert "\n" not in str(hit.value)
