"""Rerank routes: Jina and Cohere v1, Cohere v2, TEI."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from raybert.serving.answers import json_response, time_headers
from raybert.serving.desk import Desk
from raybert.serving.messages import ScoreCall, Scored
from raybert.serving.schemas_rerank import (
    CohereError,
    CohereRerankAnswer,
    CohereRerankRequest,
    JinaError,
    RerankAnswer,
    RerankRequest,
    TeiError,
    TeiRank,
    TeiRerankRequest,
)


def rerank_routes(desk: Desk) -> APIRouter:
    """Return `POST /v1/rerank`, `/v2/rerank` and `/rerank`."""
    router = APIRouter(tags=["Rerank"])

    @router.post("/v1/rerank", responses=_answers(RerankAnswer, JinaError, 422))
    async def rerank(request: RerankRequest) -> Response:
        """Order documents by how well they answer the query (Jina, Cohere v1)."""
        texts = request.texts()
        model = await desk.reranker(request.model)
        scored = await _score(desk, model, request.query, texts, "documents", request.raw_scores)
        results = [
            {"index": at, "relevance_score": score}
            | ({"document": {"text": texts[at]}} if request.return_documents else {})
            for at, score in ordered(scored.scores.tolist())[: request.top_n or None]
        ]
        body = {
            "id": str(uuid.uuid4()),
            "object": "list",
            "model": model,
            "usage": {"prompt_tokens": scored.tokens, "total_tokens": scored.tokens},
            "results": results,
            "meta": _meta("1"),
        }
        return json_response(body, headers=_headers(scored))

    @router.post("/v2/rerank", responses=_answers(CohereRerankAnswer, CohereError))
    async def rerank_v2(request: CohereRerankRequest) -> Response:
        """Order documents by how well they answer the query (Cohere v2)."""
        scored = await _score(desk, request.model, request.query, request.documents, "documents")
        results = [
            {"index": at, "relevance_score": score}
            for at, score in ordered(scored.scores.tolist())[: request.top_n]
        ]
        body = {"id": str(uuid.uuid4()), "results": results, "meta": _meta("2")}
        return json_response(body, headers=_headers(scored))

    @router.post(
        "/rerank",
        responses={**_answers(TeiRank, TeiError, 422, 424), 200: {"model": list[TeiRank]}},
    )
    async def rerank_tei(request: TeiRerankRequest) -> Response:
        """Order texts by how well they answer the query (TEI)."""
        model = await desk.reranker(request.model)
        scored = await _score(
            desk,
            model,
            request.query,
            request.texts,
            "texts",
            request.raw_scores,
            truncate=request.truncate is not False,
        )
        body = [
            {"index": at, "score": score}
            | ({"text": request.texts[at]} if request.return_text else {})
            for at, score in ordered(scored.scores.tolist())
        ]
        return json_response(body, headers=_headers(scored))

    return router


def ordered(scores: Sequence[float]) -> list[tuple[int, float]]:
    """Return (index, score), best first, equal scores by rising index."""
    return sorted(enumerate(scores), key=lambda item: -item[1])


async def _score(
    desk: Desk,
    model: str,
    query: str,
    texts: Sequence[str],
    param: str,
    raw: bool = False,
    truncate: bool = True,
) -> Scored:
    desk.limits.check_items(texts, param, "max_documents")
    desk.limits.check_texts([query], "query", allow_empty=False)
    desk.limits.check_texts(texts, param)
    return await desk.score(ScoreCall(model, query, texts, raw, truncate))


def _headers(scored: Scored) -> dict[str, str]:
    return time_headers(scored.tokens, scored.truncated, scored.times)


def _meta(version: str) -> dict[str, Any]:
    return {
        "api_version": {"version": version, "is_experimental": False},
        "billed_units": {"search_units": 1},
    }


def _answers(
    answer: type[BaseModel], error: type[BaseModel], *more: int
) -> dict[int | str, dict[str, Any]]:
    statuses = (400, 401, 403, 404, 413, 429, 500, 503, *more)
    return {200: {"model": answer}, **{status: {"model": error} for status in statuses}}
