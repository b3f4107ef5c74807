"""Writing to a served index: texts are encoded by each leg's own model, then written to its log.

Every replica may write: the index's own lock lets one write at a time, and every replica reads what
is new before it searches, so the next search anywhere finds the document.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy import sparse

from raybert.errors import ArtifactError
from raybert.index.live import LiveIndex
from raybert.records import CONTENT, ID, VECTOR
from raybert.serving.changes import Changed, DeleteCall, UpsertCall
from raybert.serving.directory import Directory
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.generation import Generation, Leg
from raybert.serving.messages import EmbedCall, Embedded, SparselyEmbedded
from raybert.serving.query_encoding import rows_of

_TEXTS_AT_ONCE = 64


class IndexWriter:
    """Upserts and deletes documents of live indexes.

    Args:
        models: the model stages texts are encoded by.
    """

    def __init__(self, models: Directory) -> None:
        self._models = models
        self._threads = ThreadPoolExecutor(1, "write")

    async def upsert(self, generation: Generation, call: UpsertCall) -> Changed:
        """Encode documents and write them to every leg.

        Raises:
            RequestError: the index is not live, or a document cannot be taken.
            OverloadedError: a model's queue is full, or another replica writes for too long.
        """
        legs = _live_legs(generation)
        tokens = 0
        for leg, live in legs:
            columns = _columns(leg, call)
            vectors, spent, fingerprint = await self._encoded(leg, call)
            tokens += spent
            await self._beside(
                lambda live=live, rows=(call.ids, vectors, columns), by=fingerprint: live.upsert(
                    *rows, model_fingerprint=by
                )
            )
        return Changed(call.index, len(call.ids), generation.now().fingerprint, tokens)

    async def delete(self, generation: Generation, call: DeleteCall) -> Changed:
        """Delete a document from every leg.

        Raises:
            RequestError: the index is not live, or has no such document.
            OverloadedError: another replica writes for too long.
        """
        deleted = [
            await self._beside(lambda live=live: live.delete([call.id]))
            for _, live in _live_legs(generation)
        ]
        if not any(deleted):
            message = f"index {call.index!r} has no document {call.id!r}"
            raise RequestError(FaultKind.UNKNOWN_NAME, message, "id")
        return Changed(call.index, 1, generation.now().fingerprint)

    async def _encoded(self, leg: Leg, call: UpsertCall) -> tuple[Any, int, str]:
        """Return rows, tokens and the model's fingerprint, as the corpus was encoded."""
        parts, tokens = [], 0
        for start in range(0, len(call.texts), _TEXTS_AT_ONCE):
            texts = call.texts[start : start + _TEXTS_AT_ONCE]
            embedded = await self._embedded(leg, _embed_call(leg, texts))
            if embedded.fingerprint != leg.index.model_fingerprint:
                message = f"model {leg.model.name!r} changed under the index {call.index!r}"
                raise RequestError(FaultKind.NOT_READY, message, retry_after_s=1.0)
            parts.append(rows_of(embedded, leg))
            tokens += embedded.tokens
        joined = sparse.vstack(parts) if sparse.issparse(parts[0]) else np.concatenate(parts)
        return joined, tokens, leg.index.model_fingerprint

    async def _embedded(self, leg: Leg, call: EmbedCall) -> Embedded | SparselyEmbedded:
        if leg.index.reads == "sparse":
            return await self._models.embed_sparse(call)
        return await self._models.embed(call)

    async def _beside(self, work: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except ArtifactError as error:
            raise RequestError(FaultKind.NOT_READY, str(error), retry_after_s=5.0) from error


def _live_legs(generation: Generation) -> list[tuple[Leg, LiveIndex]]:
    legs = [(leg, leg.live) for leg in generation.legs.values() if leg.live is not None]
    if len(legs) < len(generation.legs):
        message = f"index {generation.name!r} is not live: its documents cannot be changed"
        raise RequestError(FaultKind.WRONG_TASK, message, "name")
    return legs


def _embed_call(leg: Leg, texts: Any) -> EmbedCall:
    settings = leg.index.settings
    width, dense = leg.index.dimension, leg.index.reads == "dense"
    prompt = settings.get("prompt_name")
    return EmbedCall(
        leg.model.name,
        list(texts),
        task=None if prompt else "document",
        prompt_name=prompt,
        dimensions=width if dense and width < leg.model.dimension else None,
        normalize=True if settings.get("normalize") else None,
        truncate=True,
        fingerprint=leg.index.model_fingerprint,
    )


def _columns(leg: Leg, call: UpsertCall) -> list[dict[str, Any]]:
    """Return the payload rows: the text in its own column, and the fields."""
    column = leg.text_column
    taken = {column, ID, VECTOR, CONTENT}
    for fields in call.fields:
        for name in taken.intersection(fields):
            message = f"`documents`: the field {name!r} is the index's own; choose another name"
            raise RequestError(FaultKind.INVALID, message, "documents")
    return [{column: text, **fields} for text, fields in zip(call.texts, call.fields, strict=True)]
