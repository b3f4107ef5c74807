"""Our own routes: search and the list of indexes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from raybert.serving.answers import json_response
from raybert.serving.desk import Desk
from raybert.serving.messages import SearchAnswer, SearchCall, SearchHit
from raybert.serving.routes_openai import ERRORS
from raybert.serving.schemas_search import IndexesAnswer, SearchAnswerBody, SearchRequest


def search_routes(desk: Desk) -> APIRouter:
    """Return `POST /v1/search` and `GET /v1/indexes`."""
    router = APIRouter(tags=["Search"], responses={**ERRORS, 504: ERRORS[500]})

    @router.post("/v1/search", responses={200: {"model": SearchAnswerBody}})
    async def search(request: SearchRequest) -> Response:
        """Retrieve, fuse and optionally rerank."""
        _check(request, desk)
        call = SearchCall(
            index=request.index or await desk.only_index(),
            query=request.query,
            top_k=request.top_k,
            retrievers=request.retrievers,
            fusion=request.fusion,
            rerank=await _reranker(request, desk),
            candidates=request.candidates,
            deadline_ms=request.deadline_ms,
            filter=request.filter,
            explain=request.explain,
        )
        answer = await desk.search(call)
        headers = {"x-compute-tokens": str(answer.tokens)}
        return json_response(_body(answer, request.explain), headers=headers)

    @router.get("/v1/indexes", responses={200: {"model": IndexesAnswer}})
    async def indexes() -> Response:
        """List the served indexes."""
        cards = await desk.searches.cards() if desk.searches is not None else []
        entries = [
            {
                "id": card.name,
                "object": "index",
                "generation": card.generation,
                "rows": card.rows,
                "legs": dict(card.legs),
            }
            for card in cards
        ]
        return json_response({"object": "list", "data": entries})

    return router


def _check(request: SearchRequest, desk: Desk) -> None:
    desk.limits.check_texts([request.query], "query", allow_empty=False)
    desk.limits.check_at_most(request.top_k, "top_k", "max_top_k")
    desk.limits.check_at_most(request.candidates or 0, "candidates", "max_top_k")


async def _reranker(request: SearchRequest, desk: Desk) -> str | None:
    if isinstance(request.rerank, str):
        return (await desk.models.card(request.rerank)).name
    return await desk.reranker(None) if request.rerank else None


def _body(answer: SearchAnswer, explain: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "index": answer.index,
        "hits": [_hit(hit, explain) for hit in answer.hits],
        "degraded": dict(answer.degraded),
    }
    if explain:
        body["explain"] = {
            "generation": answer.generation,
            "models": dict(answer.models),
            "tokens": answer.tokens,
            "stages_ms": {name: round(each, 3) for name, each in answer.stages_ms.items()},
        }
    return body


def _hit(hit: SearchHit, explain: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": hit.id,
        "text": hit.text,
        "score": hit.score,
        "fields": dict(hit.fields),
    }
    if explain:
        body["legs"] = {
            name: {"rank": place.rank, "score": place.score} for name, place in hit.legs.items()
        }
        body["terms"] = {
            name: [{"term": each.term, "score": each.score} for each in terms]
            for name, terms in hit.terms.items()
        }
    return body
