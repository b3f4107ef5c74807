"""Dynamic batching by tokens: texts of many requests share forward passes of similar lengths.

While the model works, requests gather; when it is free the next batch leaves at once. See
`raybert.serving.lanes` for which texts go together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from raybert.errors import OverloadedError
from raybert.records import TokenizedTexts
from raybert.serving.lanes import BatchSettings, BatchStats, Lanes, Waiting, WaitingText

Row = TypeVar("Row")

_SHUTTING_DOWN = "the server is shutting down"


@dataclass(frozen=True, slots=True)
class Computed(Generic[Row]):
    """One request's rows in its own order, with what they cost.

    Args:
        rows: one result a text.
        queue_ms: from arrival until the first of its texts was started.
        compute_ms: from that start until the last of its texts was done.
    """

    rows: list[Row]
    queue_ms: float
    compute_ms: float


class TokenBatcher(Generic[Row]):
    """Gather texts of concurrent requests into forward passes bounded by tokens.

    Args:
        core: the forward pass; called on `executor`, one batch at a time; one row a text.
        settings: budgets and waiting times.
        executor: the model's thread (one worker), so that the event loop stays free.
    """

    def __init__(
        self,
        core: Callable[[TokenizedTexts], Sequence[Row]],
        settings: BatchSettings,
        executor: ThreadPoolExecutor,
    ) -> None:
        self.settings = settings
        self._core = core
        self._executor = executor
        self._lanes = Lanes(settings)
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @property
    def stats(self) -> BatchStats:
        """Counters since the start, and what waits now."""
        return self._lanes.stats

    async def submit(
        self, tokens: TokenizedTexts, urgent: bool = False, first: bool = False
    ) -> Computed[Row]:
        """Return one row a text; waits behind what is queued, never behind what comes later.

        Args:
            tokens: the texts, ragged.
            urgent: go to the query lane whatever the size.
            first: go before all that wait, full or not; for health checks.

        Raises:
            OverloadedError: the queue has no room; nothing of the request was queued.
        """
        if not len(tokens):
            return Computed([], 0.0, 0.0)
        if not first:
            self._admit(sum(tokens.lengths))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rows: list[Any] = [None] * len(tokens)
        request = Waiting(tokens, rows, len(tokens), time.perf_counter(), done)
        self._lanes.put(request, urgent, first)
        self._start()
        await done
        queued = request.started - request.arrived
        return Computed(rows, queued * 1e3, (time.perf_counter() - request.started) * 1e3)

    async def close(self) -> None:
        """Stop; whoever still waits is told that the server is shutting down."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
            self._worker = None
        for request in self._lanes.everything():
            _fail(request, OverloadedError(_SHUTTING_DOWN))
        self._lanes = Lanes(self.settings)

    def _admit(self, tokens: int) -> None:
        limit = self.settings.max_queued_tokens
        if self.stats.queued_tokens + tokens <= limit:
            return
        self.stats.rejected += 1
        raise OverloadedError(
            f"the queue is full: {self.stats.queued_tokens} tokens wait, {tokens} more exceed "
            f"the limit max_queued_tokens of {limit}"
        )

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        assert self._worker.get_loop() is loop, "a batcher belongs to one event loop"
        self._wake.set()

    async def _work(self) -> None:
        """Compute batch after batch while anything waits."""
        while True:
            await self._wake.wait()
            if self.settings.max_wait_ms:
                await asyncio.sleep(self.settings.max_wait_ms / 1e3)
            while batch := self._lanes.next_batch():
                await self._compute(batch)
            self._wake.clear()

    async def _compute(self, batch: list[WaitingText]) -> None:
        now = time.perf_counter()
        for text in batch:
            text.request.started = text.request.started or now
        try:
            rows = await self._forward(batch)
        except asyncio.CancelledError:
            for text in batch:
                _fail(text.request, OverloadedError(_SHUTTING_DOWN))
            raise
        except Exception as error:  # noqa: BLE001  handed to whoever waits for these texts
            await self._separate(batch, error)
            return
        _deliver(batch, rows)

    async def _separate(self, batch: list[WaitingText], error: Exception) -> None:
        """After a failed batch, compute each request's texts alone: one bad text harms nobody."""
        requests = list(dict.fromkeys(text.request for text in batch))
        if len(requests) == 1:
            _fail(requests[0], error)
            return
        for request in requests:
            own = [text for text in batch if text.request is request]
            try:
                _deliver(own, await self._forward(own))
            except Exception as own_error:  # noqa: BLE001  handed to whoever waits for these texts
                _fail(request, own_error)

    async def _forward(self, batch: Sequence[WaitingText]) -> Sequence[Row]:
        loop = asyncio.get_running_loop()
        self.stats.computing_tokens = sum(text.length for text in batch)
        try:
            rows = await loop.run_in_executor(self._executor, self._core, _joined(batch))
        finally:
            self.stats.computing_tokens = 0
        assert len(rows) == len(batch), f"core gave {len(rows)} rows for {len(batch)} texts"
        return rows


def _joined(batch: Sequence[WaitingText]) -> TokenizedTexts:
    """Return the texts of a batch as one ragged record."""
    first = batch[0].request.tokens
    types = None
    if first.token_type_ids is not None:
        types = [(text.request.tokens.token_type_ids or [])[text.row] for text in batch]
    ids = [text.request.tokens.input_ids[text.row] for text in batch]
    return replace(first, input_ids=ids, token_type_ids=types)


def _deliver(batch: Sequence[WaitingText], rows: Sequence[Any]) -> None:
    """Hand each row to its request; a request whose last row came is done."""
    for text, row in zip(batch, rows, strict=True):
        request = text.request
        request.rows[text.row] = row
        request.left -= 1
        if request.left == 0 and not request.gone:
            request.done.set_result(None)


def _fail(request: Waiting, error: Exception) -> None:
    if not request.gone:
        request.done.set_exception(error)
