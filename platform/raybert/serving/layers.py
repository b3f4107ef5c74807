"""Layers round every route: request ids, time, concurrency, body size; keys are `access`.

Plain ASGI, so that they hold for whatever lies inside, unknown routes included.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raybert.serving.access import OPEN_ROUTES, route_path
from raybert.serving.answers import fault_response
from raybert.serving.faults import FaultKind, RequestError, as_fault
from raybert.serving.limits import Limits
from raybert.serving.metrics import Metrics

_log = logging.getLogger("raybert.serving")


class RequestLayer:
    """Outermost: gives each request an id and a time, counts it, and words what escaped.

    A request beyond `max_concurrent_requests` is refused at once.

    Args:
        app: what lies inside.
        metrics: where requests are counted.
        limits: bounds of one replica.
        says_id: put the id on the answer; off where the server in front (Ray's) does so.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, limits: Limits, says_id: bool = True
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.limits = limits
        self.says_id = says_id
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens inside."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, request_id(Headers(scope=scope)), self.says_id)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        self.running += 1
        self.metrics.running.inc()
        try:
            await self._within_limit(scope, receive, answer)
        except Exception as error:  # noqa: BLE001  the last place where a fault can be worded
            await self._word(error, scope, receive, answer)
        finally:
            self.running -= 1
            self.metrics.running.dec()
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.count_request(route, answer.status, answer.seconds)

    async def _within_limit(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        limit = self.limits.max_concurrent_requests
        if self.running > limit and route_path(scope) not in OPEN_ROUTES:
            message = f"more than max_concurrent_requests of {limit} requests are running"
            raise RequestError(FaultKind.OVERLOADED, message, retry_after_s=1.0)
        await self.app(scope, receive, answer.send)

    async def _word(
        self, error: Exception, scope: Scope, receive: Receive, answer: _Answer
    ) -> None:
        fault = as_fault(error)
        if fault.kind is FaultKind.INTERNAL:
            _log.error("request %s failed", answer.request_id, exc_info=error)
        if not answer.started:
            await fault_response(route_path(scope), fault)(scope, receive, answer.send)


class _Answer:
    """The answer on its way out: adds the id and the time, remembers the status."""

    def __init__(self, send: Send, request_id: str, says_id: bool) -> None:
        self.request_id = request_id
        self._says_id = says_id
        self.status = 499  # until something is sent: the client went away
        self.started = False
        self._send = send
        self._begin = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begin

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            if self._says_id:
                headers["x-request-id"] = self.request_id
            headers["x-total-time"] = f"{self.seconds * 1e3:.1f}"
        await self._send(message)


class BodyLayer:
    """Reads the body up to the limit and hands it on whole; a longer one is refused unread."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request with its whole body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limits.max_body_bytes
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            raise self._fault()
        body = bytearray()
        more = scope["method"] in {"POST", "PUT", "PATCH"}
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > limit:
                raise self._fault()
            more = message.get("more_body", False)
        await self.app(scope, _replay(bytes(body), receive), send)

    def _fault(self) -> RequestError:
        limit = self.limits.max_body_bytes
        message = f"the body is larger than the limit max_body_bytes of {limit} bytes"
        return RequestError(FaultKind.BODY_TOO_LARGE, message)


def request_id(headers: Mapping[str, str]) -> str:
    """Return the caller's own request id where it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    harmless = 0 < len(given) <= 128 and given.isascii() and given.isprintable()
    return given if harmless else uuid.uuid4().hex


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the whole body once, then what the server says."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
