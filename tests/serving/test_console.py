from __future__ import annotations

import base64
from collections.abc import Callable

from starlette.testclient import TestClient

from raybert.serving.console import Console
from raybert.serving.keys import hash_key


def test_only_the_pages_own_script_may_run(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == 2
    assert "https://" not in answer.text


def test_links_are_escaped() -> None:
    console = Console.read({"<b>": 'http://127.0.0.1/"onclick="x'})
    assert '<a href="http://127.0.0.1/&quot;onclick=&quot;x">&lt;b&gt;</a>' in console.page


def test_a_browser_gives_the_key_as_a_password(serve_app: Callable[..., TestClient]) -> None:
    locked = serve_app(access={"keys": [{"name": "me", "sha256": hash_key("k:1")}]})
    refused = locked.get("/")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Basic realm="raybert"'
    given = base64.b64encode(b"anyone:k:1").decode()
    assert locked.get("/", headers={"authorization": f"Basic {given}"}).status_code == 200
    for wrong in ("???", base64.b64encode(b"anyone:k").decode(), ""):
        answer = locked.get("/", headers={"authorization": f"Basic {wrong}"})
        assert answer.status_code == 401
