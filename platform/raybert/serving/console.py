"""The search console at `/`: one static page, locked down so that only its own script runs."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from raybert.serving.desk import Desk
from raybert.serving.schemas_rerank import TeiError

_PAGE = Path(__file__).with_name("console.html")


@dataclass(frozen=True, slots=True)
class Console:
    """The page and the policy that allows nothing but what stands in it."""

    page: str
    policy: str

    @classmethod
    def read(cls, links: Mapping[str, str]) -> Self:
        """Read the page and put links to other pages of the platform into it."""
        anchors = "".join(
            f'<a href="{html.escape(url, quote=True)}">{html.escape(name)}</a> '
            for name, url in links.items()
        )
        page = _PAGE.read_text(encoding="utf-8").replace("<!--links-->", anchors)
        policy = (
            "default-src 'none'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'; "
            f"script-src {_hash_of(page, 'script')}; style-src {_hash_of(page, 'style')}"
        )
        return cls(page, policy)


def console_routes(desk: Desk) -> APIRouter:
    """Return `GET /`."""
    router = APIRouter(tags=["Console"])
    console = Console.read(desk.settings.links)

    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": TeiError} for status in (401, 403, 413, 429, 500)
    }

    @router.get("/", response_class=HTMLResponse, responses=refused)
    async def page() -> Response:
        """Show the search console."""
        headers = {
            "content-security-policy": console.policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        }
        return Response(console.page, media_type="text/html; charset=utf-8", headers=headers)

    return router


def _hash_of(page: str, tag: str) -> str:
    """Return the hash of the page's one inline `tag`, as a policy names it."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
