"""Our own routes for the documents of a live index: bulk upsert, delete by id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from raybert.serving.answers import json_response
from raybert.serving.changes import DeleteCall, UpsertCall
from raybert.serving.desk import Desk
from raybert.serving.limits import Limits
from raybert.serving.routes_openai import ERRORS
from raybert.serving.schemas_documents import DeleteAnswer, Document, UpsertAnswer, UpsertRequest


def document_routes(desk: Desk) -> APIRouter:
    """Return `POST /v1/indexes/{name}/documents` and `DELETE …/documents/{id}`."""
    router = APIRouter(tags=["Documents"], responses={**ERRORS, 504: ERRORS[500]})

    @router.post("/v1/indexes/{name}/documents", responses={200: {"model": UpsertAnswer}})
    async def upsert(name: str, request: UpsertRequest) -> Response:
        """Write documents to a live index; the next search finds them."""
        _check(request.documents, desk.limits)
        changed = await desk.upsert(
            UpsertCall(
                index=name,
                ids=[each.id for each in request.documents],
                texts=[each.text for each in request.documents],
                fields=[each.metadata for each in request.documents],
            )
        )
        body = {"index": name, "upserted": changed.documents, "generation": changed.generation}
        return json_response(body, headers={"x-compute-tokens": str(changed.tokens)})

    @router.delete(
        "/v1/indexes/{name}/documents/{id:path}", responses={200: {"model": DeleteAnswer}}
    )
    async def delete(name: str, identifier: Annotated[str, Path(alias="id")]) -> Response:
        """Delete a document of a live index; the next search does not find it."""
        changed = await desk.delete(DeleteCall(index=name, id=identifier))
        return json_response(
            {"index": name, "id": identifier, "deleted": True, "generation": changed.generation}
        )

    return router


def _check(documents: Sequence[Document], limits: Limits) -> None:
    limits.check_items(documents, "documents", "max_documents")
    limits.check_texts([each.text for each in documents], "documents", allow_empty=False)
    words = [each.id for each in documents]
    for each in documents:
        words += each.metadata
        for cell in each.metadata.values():
            words += [cell] if isinstance(cell, str) else cell if isinstance(cell, list) else []
    limits.check_texts(words, "documents")
