"""The edge: every route, wrapped in the layers, as one ASGI app. HTTP is known here only."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from raybert import __version__
from raybert.errors import RaybertError
from raybert.serving.access import KeyLayer, route_path
from raybert.serving.answers import fault_response
from raybert.serving.console import console_routes
from raybert.serving.desk import Desk
from raybert.serving.faults import FaultKind, RequestError, as_fault
from raybert.serving.keys import KeyRing
from raybert.serving.layers import BodyLayer, RequestLayer
from raybert.serving.routes_cohere import cohere_routes
from raybert.serving.routes_documents import document_routes
from raybert.serving.routes_openai import openai_routes
from raybert.serving.routes_operation import operation_routes
from raybert.serving.routes_rerank import rerank_routes
from raybert.serving.routes_search import search_routes
from raybert.serving.routes_tei import tei_routes

_HTTP_KINDS = {
    404: FaultKind.NO_ROUTE,
    405: FaultKind.WRONG_METHOD,
    401: FaultKind.UNAUTHENTICATED,
    403: FaultKind.FORBIDDEN,
    413: FaultKind.BODY_TOO_LARGE,
    429: FaultKind.OVERLOADED,
    503: FaultKind.NOT_READY,
}


def build_gateway(desk: Desk, says_id: bool = True, hidden_callers: bool = False) -> ASGIApp:
    """Return the whole edge: request ids and counters, then keys, then body size, then routes.

    Args:
        desk: the stages, limits and counters.
        says_id: put the request id on answers; off behind Ray Serve, which does it itself.
        hidden_callers: a proxy in front hides who calls, so nobody counts as local.
    """
    ring = KeyRing(desk.settings.access)
    inside = KeyLayer(BodyLayer(build_routes(desk), desk.limits), ring, hidden_callers)
    return RequestLayer(inside, desk.metrics, desk.limits, says_id)


def build_routes(desk: Desk) -> FastAPI:
    """Return the routes as a FastAPI app, without the layers; its OpenAPI page is `/docs`."""
    app = FastAPI(title="raybert", version=__version__, redoc_url=None, strict_content_type=False)
    app.include_router(openai_routes(desk))
    app.include_router(rerank_routes(desk))
    app.include_router(search_routes(desk))
    app.include_router(document_routes(desk))
    app.include_router(cohere_routes(desk))
    app.include_router(tei_routes(desk))
    app.include_router(operation_routes(desk))
    app.include_router(console_routes(desk))
    _say_only_what_is_sent(app)
    for kind in (RaybertError, TimeoutError, Exception):
        app.add_exception_handler(kind, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    return app


def _say_only_what_is_sent(app: FastAPI) -> None:
    """Take out of the OpenAPI page the validation answer FastAPI adds; ours are in dialect."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for operations in document["paths"].values():
            for operation in operations.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _on_error(request: Request, error: Exception) -> Response:
    return fault_response(route_path(request.scope), as_fault(error))


def _on_invalid(request: Request, error: Exception) -> Response:
    """Word the first fault pydantic found: where, what; never the request's own text."""
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = dict(error.errors()[0])
    where = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "not JSON")
        fault = RequestError(FaultKind.INVALID, f"the body is not valid JSON: {reason}")
    elif not where and first["type"] != "missing":
        message = "the body must be a JSON object, sent as Content-Type: application/json"
        fault = RequestError(FaultKind.INVALID, message)
    else:
        param = where[0] if where else None
        name = f"`{'.'.join(where)}`" if where else "the body"
        fault = RequestError(FaultKind.INVALID, f"{name}: {first['msg']}", param)
    return fault_response(route_path(request.scope), fault)


def _on_http(request: Request, error: Exception) -> Response:
    """Word what the framework refused: unknown route, wrong method, unreadable body."""
    assert isinstance(error, HTTPException)
    kind = _HTTP_KINDS.get(error.status_code, FaultKind.INVALID)
    message = f"{request.method} {route_path(request.scope)}: {error.detail}"
    response = fault_response(route_path(request.scope), RequestError(kind, message))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response
