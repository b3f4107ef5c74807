from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from raybert.serving.layers import BodyLayer, request_id
from raybert.serving.limits import Limits

Serve = Callable[..., TestClient]


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
