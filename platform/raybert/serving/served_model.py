"""One served model: texts in, rows out; tokenized beside the model's thread, batched before it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raybert.encoders import open_encoder
from raybert.errors import InputError, ModelError
from raybert.modules import Tokenization
from raybert.records import TokenizedTexts
from raybert.serving.batcher import Computed, TokenBatcher
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.lanes import BatchSettings
from raybert.serving.messages import ModelCard
from raybert.settings import Settings

_T = TypeVar("_T")
_CANARY_S = 20.0


class ModelSettings(Settings):
    """Where a served model lies and how it runs; a bare string is its path."""

    path: str
    """Model folder, or a hub's `owner/name`."""
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


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Tokens of a request's texts, and how many of the texts were cut."""

    tokens: TokenizedTexts
    truncated: int
    milliseconds: float


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
        self.batcher: TokenBatcher[NDArray[np.float32]] = TokenBatcher(
            self._core, batch or BatchSettings(), self._thread
        )
        tokenization = encoder.tokenizing.tokenization
        self._unlimited = Tokenization(
            tokenization.tokenizer, None, do_lower_case=tokenization.do_lower_case
        )
        self._frame = _special_frame(tokenization)
        self.card = _card(name, encoder)

    def require(self, capability: str) -> None:
        """Refuse a task this model is not made for.

        Raises:
            RequestError: `WRONG_TASK`.
        """
        able = self.card.capabilities
        if capability not in able:
            message = f"model {self.name!r} cannot do {capability}; it can do {', '.join(able)}"
            raise RequestError(FaultKind.WRONG_TASK, message, "model")

    async def tokenize(self, texts: Sequence[Any], truncate: bool, **prompt: Any) -> Tokenized:
        """Tokenize texts, or pairs of texts, beside the model's thread.

        Args:
            texts: strings or pairs of strings.
            truncate: cut over-long texts instead of refusing them.
            prompt: `prompt_name`, `task`, as the encoder's `pre` takes them.

        Raises:
            RequestError: `TOO_LONG` where a text is over the model's limit and must not be cut;
                `INVALID` for an unknown prompt.
        """
        return await self._beside(lambda: self._tokenized(texts, truncate, prompt))

    async def wrap_ids(self, ids: Sequence[Sequence[int]], truncate: bool) -> Tokenized:
        """Make texts given as token ids what the tokenizer makes of texts.

        Ids that already carry the model's special tokens stay as they are.

        Raises:
            RequestError: an id outside the vocabulary, or too many of them.
        """
        begin = time.perf_counter()
        vocabulary = len(self.encoder.tokenizer)
        worst = max((max(row, default=0) for row in ids), default=0)
        if worst >= vocabulary:
            message = f"token id {worst} is outside the vocabulary of {vocabulary} tokens"
            raise RequestError(FaultKind.INVALID, message, "input")
        rows = [_framed(row, self._frame) for row in ids]
        limit = self.card.max_tokens
        long = [at for at, row in enumerate(rows) if limit and len(row) > limit]
        if long and not truncate:
            raise self._too_long(long[0], len(rows[long[0]]))
        tail = self._frame[1]
        for at in long:
            rows[at] = [*rows[at][: limit - len(tail)], *tail]
        return Tokenized(TokenizedTexts(rows), len(long), (time.perf_counter() - begin) * 1e3)

    async def compute(
        self, tokens: TokenizedTexts, urgent: bool = False
    ) -> Computed[NDArray[np.float32]]:
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

    async def _beside(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work)

    def _core(self, tokens: TokenizedTexts) -> list[NDArray[np.float32]]:
        """Run one batch on the model's thread; returns B finite float32 rows."""
        with torch.inference_mode():
            rows: Tensor = self.encoder.core(tokens).float()
            finite = bool(torch.isfinite(rows).all())
        if not finite:
            raise ModelError(f"model {self.name!r} gave numbers that are not finite")
        return list(rows.cpu().numpy())

    def _tokenized(self, texts: Sequence[Any], truncate: bool, prompt: dict[str, Any]) -> Tokenized:
        begin = time.perf_counter()
        try:
            tokens: TokenizedTexts = self.encoder.pre(texts, **prompt)
        except InputError as error:
            raise RequestError(FaultKind.INVALID, str(error)) from None
        cut = self._cut(texts, tokens, prompt)
        if cut and not truncate:
            at, length = next(iter(cut.items()))
            raise self._too_long(at, length)
        return Tokenized(tokens, len(cut), (time.perf_counter() - begin) * 1e3)

    def _cut(
        self, texts: Sequence[Any], tokens: TokenizedTexts, prompt: dict[str, Any]
    ) -> dict[int, int]:
        """Return the full length of each text that was cut, by row.

        Only texts exactly at the limit can have been cut; those alone are tokenized again.
        """
        limit = self.card.max_tokens
        full = [at for at, length in enumerate(tokens.lengths) if limit and length >= limit]
        if not full:
            return {}
        before = self.encoder.tokenizing.prompt(**prompt) if prompt else ""
        lengths = self._unlimited([_with_prompt(before, texts[at]) for at in full]).lengths
        return {at: length for at, length in zip(full, lengths, strict=True) if length > limit}

    def _too_long(self, at: int, tokens: int) -> RequestError:
        limit = self.card.max_tokens
        message = f"input {at} has {tokens} tokens; model {self.name!r} takes at most {limit}"
        return RequestError(FaultKind.TOO_LONG, message, "input")


def open_served(name: str, settings: ModelSettings, tokenizing: ThreadPoolExecutor) -> ServedModel:
    """Open a model folder for serving.

    Raises:
        ModelError: the folder cannot be read.
    """
    encoder = open_encoder(
        settings.path,
        device=settings.device,
        dtype=settings.dtype,
        trust_remote_code=settings.trust_remote_code,
    )
    if settings.max_seq_length is not None:
        encoder.max_seq_length = settings.max_seq_length
    return ServedModel(name, encoder, settings.batch, tokenizing)


def _card(name: str, encoder: Any) -> ModelCard:
    dense = "dense" in encoder.capabilities
    return ModelCard(
        name=name,
        capabilities=frozenset(encoder.capabilities),
        fingerprint=encoder.fingerprint,
        dimension=encoder.get_embedding_dimension() if dense else 0,
        max_tokens=encoder.max_seq_length or 0,
        labels=0 if dense else int(getattr(encoder, "num_labels", 0)),
        prompts=tuple(encoder.prompts),
        similarity=getattr(encoder, "similarity_fn_name", None) or "cosine",
    )


def _special_frame(tokenization: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens a tokenizer puts before and after a text."""
    empty = list(tokenization([""]).input_ids[0])
    filled = list(tokenization(["a"]).input_ids[0])
    before = 0
    while before < len(empty) and empty[before] == filled[before]:
        before += 1
    return empty[:before], empty[before:]


def _framed(ids: Sequence[int], frame: tuple[list[int], list[int]]) -> list[int]:
    before, after = frame
    row = list(ids)
    has_before = row[: len(before)] == before
    has_after = not after or row[-len(after) :] == after
    return row if row and has_before and has_after else [*before, *row, *after]


def _with_prompt(prompt: str, text: Any) -> Any:
    return prompt + text if isinstance(text, str) else (prompt + text[0], text[1])
