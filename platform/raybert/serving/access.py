"""Who may ask: a key for every route but `/health`, its scope, and the audit line of a change."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.keys import ApiKey, KeyRing
from raybert.serving.keys import Scope as KeyScope
from raybert.serving.rates import Bucket, Rates

_audit = logging.getLogger("raybert.serving.audit")

OPEN_ROUTES = frozenset({"/health"})
"""Routes without a key: a load balancer has none."""


class KeyLayer:
    """A key for every route but `/health`; without keys only callers of this machine.

    Args:
        app: what lies inside.
        ring: the keys in force.
        hidden_callers: a proxy in front hides who calls, so nobody counts as local.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing, hidden_callers: bool = False) -> None:
        self.app = app
        self.ring = ring
        self.hidden_callers = hidden_callers
        self.rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that shows a key in force."""
        if scope["type"] != "http" or route_path(scope) in OPEN_ROUTES:
            await self.app(scope, receive, send)
            return
        _check_page(scope)
        bucket = self._check(scope)
        await self.app(scope, receive, send if bucket is None else _spending(send, bucket))

    def _check(self, scope: Scope) -> Bucket | None:
        """Return the bucket the request's tokens are drawn from, None where there is no rate."""
        if not self.ring.locked:
            self._check_loopback(scope)
            return None
        key = self._key(Headers(scope=scope))
        needed = needed_scope(scope["method"], route_path(scope))
        if key.allows < needed:
            message = f"key {key.name!r} has the scope {key.scope}; {needed.name.lower()} is needed"
            raise RequestError(FaultKind.FORBIDDEN, message)
        bucket = self.rates.admit(key)
        if needed > KeyScope.READ:
            _note(key, scope)
        return bucket

    def _key(self, headers: Headers) -> ApiKey:
        presented = presented_key(headers)
        if presented is None:
            message = "no API key: send `Authorization: Bearer KEY`"
            raise RequestError(FaultKind.UNAUTHENTICATED, message)
        key = self.ring.find(presented)
        if key is None:
            raise RequestError(FaultKind.UNAUTHENTICATED, "unknown API key")
        return key

    def _check_loopback(self, scope: Scope) -> None:
        if self.ring.settings.allow_open or (is_local(scope) and not self.hidden_callers):
            return
        message = (
            "this server has no API keys and answers only callers surely of its own machine; "
            "the operator sets access.keys, access.keys_file or access.allow_open"
        )
        raise RequestError(FaultKind.FORBIDDEN, message)


def _check_page(scope: Scope) -> None:
    """Refuse what a foreign web page makes a browser send: it has the browser's address and key.

    A browser says the page's `Origin` with every POST, PUT and DELETE.
    """
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is None or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
        return
    if origin.partition("://")[2] != headers.get("host"):
        message = f"a page of {origin} may not send {scope['method']} requests to this server"
        raise RequestError(FaultKind.FORBIDDEN, message)


def _spending(send: Send, bucket: Bucket) -> Send:
    """Return a `send` that draws from the bucket what the answer says it took."""

    async def spend(message: Message) -> None:
        if message["type"] == "http.response.start":
            bucket.spend(int(Headers(scope=message).get("x-compute-tokens", "0")))
        await send(message)

    return spend


def route_path(scope: Scope) -> str:
    """Return the path below the prefix the app is mounted at."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "").rstrip("/")) or "/"


def needed_scope(method: str, path: str) -> KeyScope:
    """Return the scope a route asks for: whatever changes an index is a write."""
    if path.startswith("/v1/indexes/") and method not in {"GET", "HEAD", "OPTIONS"}:
        return KeyScope.WRITE
    return KeyScope.READ


def presented_key(headers: Mapping[str, str]) -> str | None:
    """Return the key a request shows.

    `Authorization: Bearer KEY`, `X-API-Key: KEY`, or the password of `Authorization: Basic …`,
    which is what a browser that was asked for a password sends.
    """
    kind, _, given = headers.get("authorization", "").partition(" ")
    given = given.strip()
    if kind.lower() == "bearer" and given:
        return given
    if kind.lower() == "basic":
        return _password(given) or None
    return headers.get("x-api-key") or None


def _password(credentials: str) -> str:
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except ValueError:
        return ""
    return decoded.partition(":")[2]


def is_local(scope: Scope) -> bool:
    """Tell whether a request surely comes from this machine.

    Every address it came through must be a loopback address: the peer, whom a reverse proxy names
    in `X-Forwarded-For`, and the `Host` asked for, which a page that rebinds its own name to this
    machine cannot forge.
    """
    headers = Headers(scope=scope)
    client = scope.get("client")
    addresses = [] if client is None else [client[0]]  # without one, it is a local socket
    for value in headers.getlist("x-forwarded-for"):
        addresses += [each.strip() for each in value.split(",")]
    host = _host_name(headers.get("host", "localhost"))
    return (host == "localhost" or _is_loopback(host)) and all(map(_is_loopback, addresses))


def _host_name(authority: str) -> str:
    """Return the host of `HOST:PORT`; empty where it is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _note(key: ApiKey, scope: Scope) -> None:
    """Write the audit line of a change: who, what, which request; never its text."""
    state: dict[str, Any] = scope.get("state", {})
    _audit.info(
        "key=%s method=%s path=%s request=%s",
        key.name,
        scope["method"],
        route_path(scope),
        state.get("request_id"),
    )
