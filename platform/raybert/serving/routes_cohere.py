"""Cohere's v2 embed route."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.responses import Response

from raybert.serving.answers import as_base64, json_response, time_headers
from raybert.serving.desk import Desk
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.messages import EmbedCall, ModelCard, Task
from raybert.serving.schemas_cohere import CohereEmbedAnswer, CohereEmbedRequest
from raybert.serving.schemas_rerank import CohereError
from raybert.vectors import Ranges, quantize

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": CohereError} for status in (400, 401, 403, 404, 413, 429, 500, 503)
}
_TASKS: dict[str, Task] = {"search_query": "query", "search_document": "document"}
_DEVIATIONS = 4.0


def cohere_routes(desk: Desk) -> APIRouter:
    """Return `POST /v2/embed`."""
    router = APIRouter(tags=["Cohere"], responses=_ERRORS)

    @router.post("/v2/embed", responses={200: {"model": CohereEmbedAnswer}})
    async def embed(request: CohereEmbedRequest) -> Response:
        """Embed texts as queries or documents, in one or several number formats."""
        texts = _texts(request, desk)
        card = await desk.models.card(request.model)
        _check(request, card)
        call = EmbedCall(
            model=request.model,
            inputs=texts,
            dimensions=request.output_dimension,
            normalize=True,
            truncate=request.truncate != "NONE",
            side="left" if request.truncate == "START" else "right",
            **_prompt(request.input_type, card),
        )
        found = await desk.embed(call)
        body = {
            "id": str(uuid.uuid4()),
            "response_type": "embeddings_by_type",
            "embeddings": {each: typed(found.vectors, each) for each in request.embedding_types},
            "texts": texts,
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"input_tokens": found.tokens},
            },
        }
        return json_response(body, headers=time_headers(found.tokens, found.truncated, found.times))

    return router


def typed(vectors_BD: NDArray[np.float32], kind: str) -> Any:
    """Return unit vectors in one of Cohere's number formats.

    The bytes of int8 and uint8 must not depend on what else is in the request, and a served model
    knows no corpus: their range is four standard deviations of a unit vector's values, ±4/√D.
    """
    if kind == "float":
        return vectors_BD
    if kind == "base64":
        return [as_base64(vector) for vector in vectors_BD]
    width = vectors_BD.shape[1]
    edge = np.full(width, _DEVIATIONS / np.sqrt(width), dtype=np.float32)
    return quantize(vectors_BD, kind, Ranges(-edge, edge)).tolist()


def _texts(request: CohereEmbedRequest, desk: Desk) -> list[str]:
    if request.images or request.inputs or request.input_type == "image":
        message = "invalid request: this server embeds `texts` only"
        raise RequestError(FaultKind.INVALID, message, "images")
    texts = request.texts or []
    limit = desk.limits.max_items_cohere
    if len(texts) > limit:
        message = (
            f"invalid request: total number of texts must be at most {limit} - received "
            f"{len(texts)} (limit max_items_cohere)"
        )
        raise RequestError(FaultKind.TOO_MANY, message, "texts")
    desk.limits.check_items(texts, "texts", "max_items_cohere")
    desk.limits.check_texts(texts, "texts", allow_empty=False)
    return texts


def _check(request: CohereEmbedRequest, card: ModelCard) -> None:
    width = request.output_dimension or card.dimension
    if {"binary", "ubinary"} & set(request.embedding_types) and width % 8:
        message = f"invalid request: binary embeddings need a dimension divisible by 8, not {width}"
        raise RequestError(FaultKind.INVALID, message, "embedding_types")
    if request.max_tokens is not None and request.max_tokens < card.max_tokens:
        message = (
            f"invalid request: max_tokens {request.max_tokens} is below the {card.max_tokens} "
            f"tokens of model {card.name!r}; texts are cut there only"
        )
        raise RequestError(FaultKind.INVALID, message, "max_tokens")


def _prompt(input_type: str, card: ModelCard) -> dict[str, Any]:
    """Choose the model's query or document prompt, or the one named like the input type."""
    if input_type in _TASKS:
        return {"task": _TASKS[input_type]}
    return {"prompt_name": input_type if input_type in card.prompts else None}
