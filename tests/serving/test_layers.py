from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from raybert.serving.keys import Scope, hash_key
from raybert.serving.layers import BodyLayer, needed_scope, presented_key, request_id
from raybert.serving.limits import Limits

Serve = Callable[..., TestClient]

KEYS = {"reader": "read", "writer": "write", "chief": "admin"}
ROUTES = [
    ("POST", "/v1/embeddings"),
    ("POST", "/embeddings"),
    ("GET", "/v1/models"),
    ("POST", "/v1/rerank"),
    ("POST", "/v2/rerank"),
    ("POST", "/rerank"),
    ("POST", "/v1/search"),
    ("GET", "/v1/indexes"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
    ("PUT", "/v1/embeddings"),
]


@pytest.fixture
def locked(serve_app: Serve) -> TestClient:
    listed = [
        {"name": name, "sha256": hash_key(f"{name}-key"), "scope": scope}
        for name, scope in KEYS.items()
    ]
    return serve_app(access={"keys": listed})


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_wants_a_key(locked: TestClient, method: str, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "reader"}):
        answer = locked.request(method, path, headers=headers, json={})
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"
    for name in KEYS:
        answer = locked.request(
            method, path, headers={"authorization": f"Bearer {name}-key"}, json={}
        )
        assert answer.status_code not in (401, 403, 500)


def test_health_is_open(locked: TestClient) -> None:
    answer = locked.get("/health")
    assert (answer.status_code, answer.content) == (200, b"")


def test_changing_an_index_needs_a_write_key(locked: TestClient) -> None:
    path = "/v1/indexes/demo/documents"
    statuses = {
        name: locked.post(path, headers={"x-api-key": f"{name}-key"}, json={}).status_code
        for name in KEYS
    }
    assert statuses["reader"] == 403
    assert statuses["writer"] == statuses["chief"] == 404
    assert needed_scope("DELETE", f"{path}/1") is Scope.WRITE
    assert needed_scope("GET", path) is Scope.READ


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"authorization": "Basic abc"}, None),
        ({"authorization": "Bearer "}, None),
        ({"x-api-key": "abc"}, "abc"),
        ({}, None),
    ],
)
def test_where_a_key_is_looked_for(headers: dict[str, str], key: str | None) -> None:
    assert presented_key(headers) == key


@pytest.mark.parametrize(
    ("client", "settings", "status"),
    [
        (("127.0.0.1", 1), {}, 200),
        (("::1", 1), {}, 200),
        (("192.0.2.7", 1), {}, 403),
        (("not-an-address", 1), {}, 403),
        (("192.0.2.7", 1), {"access": {"allow_open": True}}, 200),
    ],
)
def test_without_keys_only_this_machine_is_answered(
    serve_app: Serve, client: tuple[str, int], settings: dict[str, Any], status: int
) -> None:
    served = serve_app(**settings)
    caller = TestClient(served.app, client=client)
    assert caller.get("/v1/models").status_code == status
    assert caller.get("/health").status_code == 200


@pytest.mark.parametrize(("size", "status"), [(199, 400), (200, 400), (201, 413)])
def test_the_body_limit(serve_app: Serve, size: int, status: int) -> None:
    client = serve_app(limits={"max_body_bytes": 200})
    answer = client.post("/v1/embeddings", content=b"x" * size)
    assert answer.status_code == status
    if status == 413:
        assert "max_body_bytes of 200 bytes" in answer.json()["error"]["message"]
        assert answer.headers["connection"] == "close"


def test_the_body_limit_holds_without_a_stated_length(serve_app: Serve) -> None:
    client = serve_app(limits={"max_body_bytes": 200})
    answer = client.post("/rerank", content=iter([b"x" * 150, b"x" * 51]))
    assert answer.status_code == 413
    assert answer.json()["error_type"] == "Validation"


def test_a_caller_that_leaves_while_sending_is_let_go() -> None:
    async def inner(*_: Any) -> None:
        raise ClientDisconnect

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/embed", "headers": []}
    asyncio.run(BodyLayer(inner, Limits())(scope, receive, send))


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-123", True), ("", False), ("x" * 129, False), ("bad\n", False), ("ü", False)],
)
def test_harmless_request_ids_are_kept(given: str, kept: bool) -> None:
    assert (request_id({"x-request-id": given}) == given) is kept


def test_answers_carry_id_and_time(client: TestClient) -> None:
    answer = client.get("/v1/models", headers={"x-request-id": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    assert float(answer.headers["x-total-time"]) >= 0


def test_too_many_at_a_time_are_refused_at_once(serve_app: Serve) -> None:
    client = serve_app(limits={"max_concurrent_requests": 0})
    answer = client.post("/v1/embeddings", json={})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert client.get("/health").status_code == 200
