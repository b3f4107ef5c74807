from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from raybert.serving import Desk, GatewaySettings
from raybert.serving.gateway import build_routes

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
POSTS = ["/v1/embeddings", "/v1/rerank", "/v2/rerank", "/rerank", "/v2/embed", "/embed"]
POSTS += [
    "/predict",
    "/similarity",
    "/tokenize",
    "/decode",
    "/v1/search",
    "/",
    "/v1/indexes/x/documents",
]
KEYS = ["model", "input", "inputs", "texts", "query", "documents", "dimensions", "top_n", "ids"]


@pytest.fixture
def schema(client: TestClient) -> Any:
    return schemathesis.openapi.from_dict(client.get("/openapi.json").json())


def test_the_openapi_page_is_true_to_the_wire(client: TestClient, schema: Any) -> None:
    for operation in (found.ok() for found in schema.get_all_operations()):

        @settings(
            max_examples=15,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            answer = client.request(
                case.method,
                case.formatted_path,
                content=json.dumps(case.body) if case.method == "POST" else None,
                headers={"content-type": "application/json"},
            )
            response = schemathesis.Response.from_any(answer)
            case.validate_response(response, checks=CHECKS)

        check()


def test_every_route_states_its_refusals(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert "HTTPValidationError" not in json.dumps(document)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path != "/health":
                assert {"401", "403", "413", "429", "500"} <= set(operation["responses"]), path


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(POSTS),
    body=ANYTHING | st.dictionaries(st.sampled_from(KEYS), ANYTHING, min_size=1),
)
def test_nothing_malformed_breaks_the_server(client: TestClient, path: str, body: Any) -> None:
    answer = client.post(
        path, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code < 500, answer.text
    assert isinstance(answer.json(), dict | list)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(POSTS), content=st.binary(max_size=60))
def test_no_bytes_break_the_server(client: TestClient, path: str, content: bytes) -> None:
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "GET"])
def test_wrong_methods(client: TestClient, method: str) -> None:
    answer = client.request(method, "/v1/embeddings")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_an_error_nobody_foresaw_is_worded_and_hidden(
    serve_app: Callable[..., TestClient],
) -> None:
    class Broken:
        async def cards(self) -> Any:
            raise ValueError("secret path")

    answer = serve_app(searches=Broken()).get("/v1/indexes")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text


def test_the_app_may_lie_below_a_prefix(directory: Any) -> None:
    routes = build_routes(Desk(GatewaySettings(), directory))
    client = TestClient(routes, root_path="/below")
    assert client.get("/below/v1/models").status_code == 200
    assert client.post("/below/embed", json={}).json()["error_type"] == "Validation"
