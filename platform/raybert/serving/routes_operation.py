"""Routes for operators: readiness and counters."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from raybert.serving.desk import Desk
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.routes_openai import ERRORS
from raybert.serving.schemas_rerank import TeiError

_log = logging.getLogger("raybert.serving")
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def operation_routes(desk: Desk) -> APIRouter:
    """Return `GET /health` and `GET /metrics`."""
    router = APIRouter(tags=["Operation"])
    refused: dict[int | str, dict[str, Any]] = {
        status: ERRORS[status] for status in (401, 403, 413, 429, 500)
    }

    @router.get(
        "/health",
        response_class=Response,
        responses={200: {"description": "Ready"}, 503: {"model": TeiError}},
    )
    async def health() -> Response:
        """Answer 200 with no body when every stage is ready, else 503."""
        try:
            await desk.models.cards()
            if desk.searches is not None:
                await desk.searches.cards()
        except Exception as error:
            _log.warning("not ready: %s", error)
            raise RequestError(FaultKind.NOT_READY, "unhealthy", retry_after_s=1.0) from error
        return Response(status_code=200)

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={**refused, 200: {"content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        """Give the counters of all gateway replicas and the stages' gauges as Prometheus text."""
        return Response((await desk.page()).text(), media_type=_PROMETHEUS)

    return router
