"""Routes in OpenAI's dialect: embeddings and models."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from raybert.serving.answers import as_base64, json_response, time_headers
from raybert.serving.desk import Desk
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.messages import EmbedCall, Embedded, Task
from raybert.serving.schemas_openai import (
    EmbeddingsAnswer,
    EmbeddingsRequest,
    ErrorAnswer,
    ModelsAnswer,
)

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 413, 429, 500, 503)
}
"""Every status the OpenAI routes may answer with besides 200."""


def openai_routes(desk: Desk) -> APIRouter:
    """Return `POST /v1/embeddings` (and `/embeddings`) and `GET /v1/models`."""
    router = APIRouter(tags=["OpenAI"], responses=ERRORS)
    started = int(time.time())

    async def embeddings(request: EmbeddingsRequest) -> Response:
        """Embed texts or token ids."""
        inputs = _inputs(request, desk)
        call = EmbedCall(
            model=request.model,
            inputs=inputs,
            dimensions=request.dimensions,
            truncate=desk.settings.auto_truncate if request.truncate is None else request.truncate,
            **_prompt(request.task),
        )
        embedded = await desk.embed(call)
        body = _answer(request, embedded)
        headers = time_headers(embedded.tokens, embedded.truncated, embedded.times)
        return json_response(body, headers=headers)

    for path in ("/v1/embeddings", "/embeddings"):
        router.add_api_route(
            path, embeddings, methods=["POST"], responses={200: {"model": EmbeddingsAnswer}}
        )

    @router.get("/v1/models", responses={200: {"model": ModelsAnswer}})
    async def models() -> Response:
        """List what is served."""
        cards = await desk.models.cards()
        entries = [
            {
                "id": card.name,
                "object": "model",
                "created": started,
                "owned_by": "raybert",
                "capabilities": sorted(card.capabilities),
                "dimension": card.dimension,
                "max_tokens": card.max_tokens,
                "fingerprint": card.fingerprint,
            }
            for card in cards.values()
        ]
        return json_response({"object": "list", "data": entries})

    return router


def _inputs(request: EmbeddingsRequest, desk: Desk) -> list[str] | list[list[int]]:
    """Bring the four shapes of `input` to a list of texts or a list of token id lists."""
    given = request.input
    if isinstance(given, str):
        desk.limits.check_texts([given], "input", allow_empty=False)
        return [given]
    desk.limits.check_items(given, "input", "max_items")
    first = given[0]
    if isinstance(first, int):
        return [[int(each) for each in given if isinstance(each, int)]]
    if isinstance(first, str):
        texts = [each for each in given if isinstance(each, str)]
        desk.limits.check_texts(texts, "input", allow_empty=False)
        return texts
    ids = [each for each in given if isinstance(each, list)]
    for at, row in enumerate(ids):
        if not row:
            raise RequestError(FaultKind.EMPTY, f"`input` item {at} is empty", "input")
    return ids


def _prompt(task: str | None) -> dict[str, Any]:
    """Read `task` as a task of the model, or as one of its prompt names."""
    tasks: dict[str, Task] = {"query": "query", "document": "document"}
    if task in tasks:
        return {"task": tasks[task]}
    return {"prompt_name": task}


def _answer(request: EmbeddingsRequest, embedded: Embedded) -> dict[str, Any]:
    as_text = request.encoding_format == "base64"
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": as_base64(vector) if as_text else vector,
            }
            for index, vector in enumerate(embedded.vectors)
        ],
        "model": request.model,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
    }
