"""One served model: texts in, rows out; tokenized beside the model's thread, batched before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from raybert.encoders import open_encoder
from raybert.errors import ModelError
from raybert.records import TokenizedTexts
from raybert.serving.batcher import Computed, TokenBatcher
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.lanes import BatchSettings
from raybert.serving.messages import ModelCard, SparseRow, StageTimes
from raybert.serving.preparing import Preparation, Side, Tokenized
from raybert.serving.sources import model_folder
from raybert.serving.tracing import trace_stages
from raybert.settings import Settings

_T = TypeVar("_T")
_CANARY_S = 20.0


class ModelSettings(Settings):
    """Where a served model lies and how it runs; a bare string is its path."""

    path: str
    """Model folder, a hub's `owner/name`, or `models:/NAME@ALIAS` of the MLflow registry."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N."""
    dtype: str = "auto"
    """auto, float32, bfloat16, float16."""
    max_seq_length: int | None = None
    """Tokens of the longest text; None takes the model's own."""
    trust_remote_code: bool = False
    """Run Python code that lies in the model folder."""
    batch: BatchSettings = BatchSettings()
    """How texts gather into forward passes."""


class ServedModel:
    """An encoder behind a token batcher.

    Args:
        name: the name requests use.
        encoder: a dense, sparse or cross encoder.
        batch: how its texts gather.
        tokenizing: threads that tokenize; may be shared by several models.
    """

    def __init__(
        self,
        name: str,
        encoder: Any,
        batch: BatchSettings | None = None,
        tokenizing: ThreadPoolExecutor | None = None,
    ) -> None:
        self.name = name
        self.encoder = encoder
        self._tokenizing = tokenizing or ThreadPoolExecutor(1, f"tokenize-{name}")
        self._thread = ThreadPoolExecutor(1, f"model-{name}")
        self.batcher: TokenBatcher[Any] = TokenBatcher(
            self._core, _bounded(batch or BatchSettings(), encoder), self._thread
        )
        self.preparation = Preparation(name, encoder)
        self.card = _card(name, encoder, self.batcher.settings)

    def require(self, capability: str) -> None:
        """Refuse a task this model is not made for.

        Raises:
            RequestError: `WRONG_TASK`.
        """
        able = self.card.capabilities
        if capability not in able:
            message = f"model {self.name!r} cannot do {capability}; it can do {', '.join(able)}"
            raise RequestError(FaultKind.WRONG_TASK, message, "model")

    async def tokenize(
        self, texts: Sequence[Any], truncate: bool, side: Side = "right", **prompt: Any
    ) -> Tokenized:
        """Tokenize texts, or pairs of texts, beside the model's thread; see `Preparation.texts`."""
        return await self.beside(lambda: self.preparation.texts(texts, truncate, side, **prompt))

    async def wrap_ids(
        self, ids: Sequence[Sequence[int]], truncate: bool, side: Side = "right"
    ) -> Tokenized:
        """Take texts given as token ids; see `Preparation.ids`."""
        return await self.beside(lambda: self.preparation.ids(ids, truncate, side))

    async def compute(self, tokens: TokenizedTexts, urgent: bool = False) -> Computed[Any]:
        """Run tokens through the model, together with whatever else waits.

        Raises:
            RequestError: more tokens than one request may have.
            OverloadedError: the queue is full.
            ModelError: the model gave numbers that are not finite.
        """
        total, limit = sum(tokens.lengths), self.batcher.settings.max_request_tokens
        if total > limit:
            message = (
                f"the request has {total} tokens, above the limit max_request_tokens of {limit}"
            )
            raise RequestError(FaultKind.TOO_MANY, message, "input")
        return await self.batcher.submit(tokens, urgent)

    def times(self, found: Tokenized, computed: Computed[Any]) -> StageTimes:
        """Return what a request cost here, and add it to the request's trace."""
        times = StageTimes(found.milliseconds, computed.queue_ms, computed.compute_ms)
        trace_stages(times.by_stage(), model=self.name, tokens=sum(found.tokens.lengths))
        return times

    async def check(self) -> None:
        """Send one short text through tokenizer, queue and model.

        Raises:
            ModelError: no answer within 20 s.
        """
        text = ("ready?", "ready.") if "rerank" in self.card.capabilities else "ready?"
        try:
            async with asyncio.timeout(_CANARY_S):
                found = await self.tokenize([text], truncate=True)
                await self.batcher.submit(found.tokens, first=True)
        except TimeoutError:
            raise ModelError(f"model {self.name!r}: no answer within {_CANARY_S:.0f} s") from None

    def gauges(self) -> dict[str, float]:
        """Return the batcher's counters."""
        return {name: float(value) for name, value in asdict(self.batcher.stats).items()}

    async def close(self) -> None:
        """Stop the batcher and the threads."""
        await self.batcher.close()
        self._thread.shutdown(wait=False)
        self._tokenizing.shutdown(wait=False)

    async def beside(self, work: Callable[[], _T]) -> _T:
        """Run work of the CPU on the tokenizing threads."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work)

    def _core(self, tokens: TokenizedTexts) -> list[Any]:
        """Run what waited on the model's thread and its lanes; returns a row a text, in order."""
        found: list[Any] = [None] * len(tokens)
        for places, rows, _ in self.encoder.run_batches(self._rows, tokens):
            for place, row in zip(places, rows, strict=True):
                found[place] = row
        return found

    def _rows(self, tokens: TokenizedTexts) -> list[Any]:
        """Run one batch; returns B rows, finite, in float32.

        Sparse rows leave the thread compressed: most of a vocabulary's weights are zero.
        """
        with torch.inference_mode():
            rows: Tensor = self.encoder.core(tokens).float()
            finite = bool(torch.isfinite(rows).all())
        if not finite:
            raise ModelError(f"model {self.name!r} gave numbers that are not finite")
        if "sparse" in self.encoder.capabilities:
            return sparse_rows(self.encoder.post(rows))
        return list(rows.cpu().numpy())


def open_served(name: str, settings: ModelSettings, tokenizing: ThreadPoolExecutor) -> ServedModel:
    """Open a model folder for serving.

    Raises:
        ModelError: the folder cannot be read.
    """
    encoder = open_encoder(
        model_folder(settings.path),
        device=settings.device,
        dtype=settings.dtype,
        trust_remote_code=settings.trust_remote_code,
    )
    if settings.max_seq_length is not None:
        encoder.max_seq_length = settings.max_seq_length
    return ServedModel(name, encoder, settings.batch, tokenizing)


def sparse_rows(compressed: Any) -> list[SparseRow]:
    """Cut compressed rows [B, V] into one row a text."""
    compressed.sort_indices()
    ends = compressed.indptr
    return [
        SparseRow(
            compressed.indices[start:end].astype(np.int32),
            compressed.data[start:end].astype(np.float32),
        )
        for start, end in pairwise(ends)
    ]


def _bounded(batch: BatchSettings, encoder: Any) -> BatchSettings:
    """Keep a sparse model's batches small enough for its logits [B, T, V]."""
    if "sparse" not in encoder.capabilities:
        return batch
    tokens = min(batch.max_batch_tokens, encoder.tokens_per_batch)
    return batch.model_copy(update={"max_batch_tokens": tokens})


def _card(name: str, encoder: Any, batch: BatchSettings) -> ModelCard:
    embeds = "rerank" not in encoder.capabilities
    return ModelCard(
        name=name,
        capabilities=frozenset(encoder.capabilities),
        fingerprint=encoder.fingerprint,
        dimension=encoder.get_embedding_dimension() if embeds else 0,
        max_tokens=encoder.max_seq_length or 0,
        labels=0 if embeds else int(getattr(encoder, "num_labels", 0)),
        pooling=_pooling(encoder),
        max_batch_tokens=batch.max_batch_tokens,
        dtype=str(getattr(encoder, "dtype", "float32")).removeprefix("torch."),
        label_names=() if embeds else _label_names(encoder),
        prompts=tuple(encoder.prompts),
        similarity=getattr(encoder, "similarity_fn_name", None) or "cosine",
    )


def _label_names(encoder: Any) -> tuple[str, ...]:
    """Return the names of a classifier's labels, in the order of its scores."""
    first = next(iter(getattr(encoder, "model", ())), None)
    config = getattr(getattr(first, "model", None), "config", None)
    labels = getattr(config, "id2label", None) or {}
    return tuple(str(labels[each]) for each in sorted(labels))


def _pooling(encoder: Any) -> str:
    """Return how an encoder pools, its modes joined by a plus where it has several."""
    modes = (getattr(module, "modes", None) for module in getattr(encoder, "model", ()))
    return "+".join(next((each for each in modes if each), ("mean",)))
