"""The embedding stage: texts or token ids to vectors, and similarities, by model name."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.host import ModelHost
from raybert.serving.messages import (
    EmbedCall,
    Embedded,
    ScoreCall,
    Scored,
    SparselyEmbedded,
    StageTimes,
)
from raybert.serving.preparing import Tokenized
from raybert.serving.served_model import ServedModel
from raybert.vectors import pick_similarity


class Embedder(ModelHost):
    """Holds dense and sparse encoders; a plain class, so that it runs with Ray or without."""

    async def embed(self, call: EmbedCall) -> Embedded:
        """Embed texts or token ids.

        Raises:
            RequestError: unknown model, too long, bad dimensions, unknown prompt.
            OverloadedError: the model's queue is full.
        """
        model = self.pick(call.model, "dense", call.fingerprint)
        _check_dimensions(call.dimensions, model)
        found = await _tokenized(model, call)
        computed = await model.compute(found.tokens, call.urgent)
        return Embedded(
            vectors=_finished(model, computed.rows, call),
            tokens=sum(found.tokens.lengths),
            truncated=found.truncated,
            fingerprint=model.card.fingerprint,
            times=model.times(found, computed),
        )

    async def embed_sparse(self, call: EmbedCall) -> SparselyEmbedded:
        """Embed texts or token ids by a sparse model; `dimensions` and `normalize` do not apply.

        Raises:
            RequestError: unknown model, too long, unknown prompt.
            OverloadedError: the model's queue is full.
        """
        model = self.pick(call.model, "sparse", call.fingerprint)
        found = await _tokenized(model, call)
        computed = await model.compute(found.tokens, call.urgent)
        return SparselyEmbedded(
            rows=computed.rows,
            tokens=sum(found.tokens.lengths),
            truncated=found.truncated,
            fingerprint=model.card.fingerprint,
            times=model.times(found, computed),
        )

    async def similarities(self, call: ScoreCall) -> Scored:
        """Score texts against the query by the similarity of their vectors.

        The query gets the model's query prompt, the texts its document prompt.
        """
        begin = time.perf_counter()
        query = EmbedCall(call.model, [call.query], task="query", truncate=call.truncate)
        texts = EmbedCall(call.model, call.texts, task="document", truncate=call.truncate)
        one, many = await self.embed(query), await self.embed(texts)
        compare = pick_similarity(self.models[call.model].card.similarity).matrix
        scores = compare(torch.from_numpy(one.vectors), torch.from_numpy(many.vectors))
        return Scored(
            scores=np.asarray(scores.numpy()[0], dtype=np.float32),
            tokens=one.tokens + many.tokens,
            truncated=one.truncated + many.truncated,
            times=StageTimes(compute_ms=(time.perf_counter() - begin) * 1e3),
        )


async def _tokenized(model: ServedModel, call: EmbedCall) -> Tokenized:
    if call.inputs and not isinstance(call.inputs[0], str):
        ids: Any = call.inputs
        return await model.wrap_ids(ids, call.truncate, call.side)
    prompt = {"prompt_name": call.prompt_name, "task": call.task}
    return await model.tokenize(call.inputs, call.truncate, call.side, **prompt)


def _finished(
    model: ServedModel, rows: list[NDArray[np.float32]], call: EmbedCall
) -> NDArray[np.float32]:
    """Cut, then normalise: float32 [B, D]."""
    if not rows:
        return np.zeros((0, call.dimensions or model.card.dimension), dtype=np.float32)
    vectors = torch.from_numpy(np.stack(rows))
    normalize = call.dimensions is not None if call.normalize is None else call.normalize
    finished = model.encoder.post(
        vectors, normalize_embeddings=normalize, truncate_dim=call.dimensions
    )
    return np.asarray(finished, dtype=np.float32)


def _check_dimensions(dimensions: int | None, model: ServedModel) -> None:
    if dimensions is None or 1 <= dimensions <= model.card.dimension:
        return
    message = (
        f"`dimensions` is {dimensions}; model {model.name!r} has {model.card.dimension}, "
        "allowed is 1 up to that"
    )
    raise RequestError(FaultKind.INVALID, message, "dimensions")
