from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from raybert.serving import Desk, Directory, GatewaySettings, build_gateway
from raybert.serving.access import needed_scope, presented_key
from raybert.serving.keys import Scope, hash_key

Serve = Callable[..., TestClient]

KEYS = {"reader": "read", "writer": "write", "chief": "admin"}
ROUTES = [
    ("POST", "/v1/embeddings"),
    ("POST", "/embeddings"),
    ("GET", "/v1/models"),
    ("POST", "/v1/rerank"),
    ("POST", "/v2/rerank"),
    ("POST", "/rerank"),
    ("POST", "/v2/embed"),
    ("POST", "/embed"),
    ("POST", "/"),
    ("POST", "/invocations"),
    ("POST", "/embed_sparse"),
    ("POST", "/predict"),
    ("POST", "/similarity"),
    ("POST", "/tokenize"),
    ("POST", "/decode"),
    ("GET", "/info"),
    ("GET", "/"),
    ("POST", "/v1/search"),
    ("GET", "/v1/indexes"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
    ("PUT", "/v1/embeddings"),
]
WRITES = [
    ("POST", "/v1/indexes/{name}/documents"),
    ("DELETE", "/v1/indexes/{name}/documents/{id}"),
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
        assert answer.headers["www-authenticate"].split()[0] in {"Bearer", "Basic"}
    for name in KEYS:
        answer = locked.request(
            method, path, headers={"authorization": f"Bearer {name}-key"}, json={}
        )
        assert answer.status_code not in (401, 403, 500)


def test_health_is_open(locked: TestClient) -> None:
    answer = locked.get("/health")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_changing_an_index_needs_a_write_key(locked: TestClient, method: str, path: str) -> None:
    shown = {"nobody": {}, "stranger": {"x-api-key": "wrong"}}
    shown |= {name: {"x-api-key": f"{name}-key"} for name in KEYS}
    there = path.format(name="demo", id="1")
    statuses = {
        name: locked.request(method, there, headers=headers, json={}).status_code
        for name, headers in shown.items()
    }
    assert (statuses["nobody"], statuses["stranger"], statuses["reader"]) == (401, 401, 403)
    assert statuses["writer"] == statuses["chief"] in (400, 404)  # let in: what is asked is wrong
    assert needed_scope(method, there) is Scope.WRITE
    assert needed_scope("GET", there) is Scope.READ


def test_no_route_is_missing_above(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    there = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert there == (there & {*ROUTES, *WRITES}) | {("GET", "/health")}


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
    caller = TestClient(served.app, base_url="http://127.0.0.1:8000", client=client)
    assert caller.get("/v1/models").status_code == status
    assert caller.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("forwarded", "status"), [("127.0.0.1", 200), ("127.0.0.1, 192.0.2.7", 403), ("x", 403)]
)
def test_whom_a_reverse_proxy_names_must_be_local_too(
    client: TestClient, forwarded: str, status: int
) -> None:
    answer = client.get("/v1/models", headers={"x-forwarded-for": forwarded})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("[::1]:8000", 200), ("evil.example:8000", 403), ("[", 403)],
)
def test_a_name_that_was_rebound_to_this_machine_is_not_local(
    client: TestClient, host: str, status: int
) -> None:
    assert client.get("/v1/models", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1", 200), ("http://evil.example", 403), ("null", 403)],
)
def test_a_foreign_page_may_not_send(client: TestClient, origin: str, status: int) -> None:
    body = {"inputs": "a"}
    answer = client.post("/tokenize", headers={"origin": origin}, json=body)
    assert answer.status_code == status
    assert client.get("/v1/models", headers={"origin": origin}).status_code == 200


def test_behind_a_proxy_that_hides_callers_nobody_is_local(directory: Directory) -> None:
    desk = Desk(GatewaySettings(), directory)
    hidden = TestClient(build_gateway(desk, hidden_callers=True), client=("127.0.0.1", 1))
    assert hidden.get("/v1/models").status_code == 403
    assert "access.keys" in hidden.get("/v1/models").text
    assert hidden.get("/health").status_code == 200
