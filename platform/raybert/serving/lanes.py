"""The waiting texts of one model: two lanes, and which texts make the next forward pass."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import model_validator

from raybert.records import TokenizedTexts
from raybert.settings import Settings


class BatchSettings(Settings):
    """How texts gather into forward passes; per model and replica."""

    max_batch_tokens: int = 2048
    """Tokens computed in one forward pass, padding included; one longer text still passes alone."""
    max_batch_rows: int = 256
    """Texts in one forward pass."""
    max_wait_ms: float = 0.0
    """Milliseconds an idle model waits for company before it starts; 0 starts at once."""
    max_request_tokens: int = 300_000
    """Tokens of one request, all its texts together (OpenAI's own number)."""
    max_queued_tokens: int = 400_000
    """Tokens allowed to wait; a request beyond it is refused at once (429)."""
    bulk_above_tokens: int = 2048
    """Requests of more tokens than this go to the bulk lane, behind small requests."""
    max_age_ms: float = 1000.0
    """Bulk texts that waited longer take turns with the query lane."""
    padding_share: float = 0.2
    """Share of a batch's computed tokens that may be padding, 0 to 1."""
    window: int = 512
    """Waiting texts looked at when a batch is filled."""

    @model_validator(mode="after")
    def _check_room(self) -> Self:
        if self.max_request_tokens > self.max_queued_tokens:
            raise ValueError("max_request_tokens may not exceed max_queued_tokens")
        return self


@dataclass(slots=True)
class BatchStats:
    """Counters of one batcher since it started, and what waits now."""

    batches: int = 0
    rows: int = 0
    tokens: int = 0
    computed_tokens: int = 0
    rejected: int = 0
    dropped: int = 0
    queued_rows: int = 0
    queued_tokens: int = 0
    computing_tokens: int = 0


@dataclass(slots=True, eq=False)
class Waiting:
    """One request in the queue: its rows are filled in by one or several batches."""

    tokens: TokenizedTexts
    rows: list[Any]
    left: int
    arrived: float
    done: asyncio.Future[None]
    started: float = 0.0

    @property
    def gone(self) -> bool:
        """Nobody waits any more: answered, failed, or the caller went away."""
        return self.done.done()


@dataclass(frozen=True, slots=True, eq=False)
class WaitingText:
    """One text: row `row` of its request, `length` tokens long."""

    request: Waiting
    row: int
    length: int

    @property
    def kind(self) -> tuple[bool, int, str | None]:
        """What all texts of one forward pass must share."""
        tokens = self.request.tokens
        return tokens.token_type_ids is None, tokens.prompt_length, tokens.task


@dataclass(slots=True)
class Lanes:
    """Two first-in-first-out queues: small requests (query) before large ones (bulk).

    A batch is led by the oldest text of its lane, so nothing waits for ever, and filled with the
    texts nearest to it in length, so little padding is computed.
    """

    settings: BatchSettings
    stats: BatchStats = field(default_factory=BatchStats)
    query: deque[WaitingText] = field(default_factory=deque)
    bulk: deque[WaitingText] = field(default_factory=deque)
    bulk_had_turn: bool = False

    def put(self, request: Waiting, urgent: bool = False, first: bool = False) -> None:
        """Queue every text of a request, in order; `first` puts it before all that wait."""
        lengths = request.tokens.lengths
        texts = [WaitingText(request, row, length) for row, length in enumerate(lengths)]
        if first:
            self.query.extendleft(reversed(texts))
        elif urgent or sum(lengths) <= self.settings.bulk_above_tokens:
            self.query.extend(texts)
        else:
            self.bulk.extend(texts)
        self.stats.queued_rows += len(lengths)
        self.stats.queued_tokens += sum(lengths)

    def next_batch(self) -> list[WaitingText]:
        """Take the next batch out of the queue; empty when nothing waits."""
        self._drop_gone(self.query)
        self._drop_gone(self.bulk)
        if not self.query and not self.bulk:
            return []
        bulk = not self.query or (self._aged(self.bulk) and not self.bulk_had_turn)
        self.bulk_had_turn = bulk
        return self._take(self.bulk if bulk else self.query)

    def everything(self) -> list[Waiting]:
        """Return every waiting request once."""
        return list(dict.fromkeys(text.request for text in (*self.query, *self.bulk)))

    def _aged(self, lane: deque[WaitingText]) -> bool:
        if not lane:
            return False
        return (time.perf_counter() - lane[0].request.arrived) * 1e3 > self.settings.max_age_ms

    def _drop_gone(self, lane: deque[WaitingText]) -> None:
        while lane and lane[0].request.gone:
            self._count_out(lane.popleft())
            self.stats.dropped += 1

    def _take(self, lane: deque[WaitingText]) -> list[WaitingText]:
        """Take the lead and its nearest in length out of the oldest `window` texts."""
        window = [lane.popleft() for _ in range(min(len(lane), self.settings.window))]
        taken = self._choose(window)
        lane.extendleft(reversed([text for at, text in enumerate(window) if at not in taken]))
        batch = [window[at] for at in sorted(taken)]
        for text in batch:
            self._count_out(text)
        self.stats.batches += 1
        self.stats.rows += len(batch)
        self.stats.tokens += sum(text.length for text in batch)
        self.stats.computed_tokens += len(batch) * max(text.length for text in batch)
        return batch

    def _choose(self, window: Sequence[WaitingText]) -> set[int]:
        lead = window[0]
        near = sorted(range(len(window)), key=lambda at: (abs(window[at].length - lead.length), at))
        taken = {0}
        longest = used = lead.length
        for at in near:
            text = window[at]
            if at == 0 or text.request.gone or text.kind != lead.kind:
                continue
            if not self._fits(len(taken) + 1, max(longest, text.length), used + text.length):
                break
            taken.add(at)
            longest, used = max(longest, text.length), used + text.length
        return taken

    def _fits(self, rows: int, longest: int, used: int) -> bool:
        """Tell whether a batch may be `rows` rows of `longest` tokens, `used` of them text."""
        computed = rows * longest
        settings = self.settings
        if computed > settings.max_batch_tokens or rows > settings.max_batch_rows:
            return False
        # A small pass is bound by its fixed cost, not by its tokens: padding is nearly free there.
        free = settings.max_batch_tokens / 16
        return computed - used <= max(settings.padding_share * computed, free)

    def _count_out(self, text: WaitingText) -> None:
        self.stats.queued_rows -= 1
        self.stats.queued_tokens -= text.length
