from __future__ import annotations

import asyncio
import time
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raybert.records import TokenizedTexts
from raybert.serving.lanes import BatchSettings, Lanes, Waiting


def waiting(
    lengths: list[int], types: bool = False, prompt_length: int = 0, task: str | None = None
) -> Waiting:
    loop = asyncio.new_event_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.close()
    ids = [[7] * length for length in lengths]
    tokens = TokenizedTexts(ids, ids if types else None, prompt_length, task)
    return Waiting(tokens, [None] * len(lengths), len(lengths), time.perf_counter(), done)


def drained(lanes: Lanes) -> list[list[int]]:
    """Lengths of every batch until nothing waits."""
    batches = []
    while batch := lanes.next_batch():
        batches.append([text.length for text in batch])
    return batches


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.integers(1, 600), min_size=1, max_size=40), max_size=12),
    st.integers(16, 4096),
)
def test_every_text_is_in_exactly_one_batch_within_the_budget(
    requests: list[list[int]], budget: int
) -> None:
    lanes = Lanes(BatchSettings(max_batch_tokens=budget))
    for lengths in requests:
        lanes.put(waiting(lengths))
    batches = drained(lanes)
    assert sorted(chain(*batches)) == sorted(chain(*requests))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(batch) <= budget
    assert lanes.stats.queued_tokens == 0
    assert lanes.stats.queued_rows == 0
    assert lanes.stats.tokens == sum(map(sum, requests))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(10, 500), min_size=200, max_size=400))
def test_padding_stays_within_its_share(lengths: list[int]) -> None:
    lanes = Lanes(BatchSettings(max_batch_tokens=2048, padding_share=0.2))
    lanes.put(waiting(lengths))
    for batch in drained(lanes):
        computed = len(batch) * max(batch)
        assert computed - sum(batch) <= max(0.2 * computed, 128)


def test_the_oldest_text_leads_and_near_lengths_join() -> None:
    lanes = Lanes(BatchSettings(max_batch_tokens=100))
    lanes.put(waiting([50, 10, 48, 11]))
    assert drained(lanes) == [[50, 48], [10, 11]]


def test_small_requests_go_before_bulk() -> None:
    lanes = Lanes(BatchSettings(max_batch_tokens=64, bulk_above_tokens=100))
    lanes.put(waiting([60] * 3))
    lanes.put(waiting([8]))
    assert drained(lanes)[0] == [8]


def test_urgent_joins_the_query_lane_and_first_goes_before_all() -> None:
    lanes = Lanes(BatchSettings(max_batch_tokens=8, bulk_above_tokens=10))
    lanes.put(waiting([5]))
    lanes.put(waiting([6, 6]), urgent=True)
    lanes.put(waiting([7]), first=True)
    assert drained(lanes) == [[7], [5], [6], [6]]


def test_aged_bulk_takes_turns_with_queries() -> None:
    lanes = Lanes(BatchSettings(max_batch_tokens=60, bulk_above_tokens=100, max_age_ms=1.0))
    bulk = waiting([60, 60])
    bulk.arrived -= 1.0
    lanes.put(bulk)
    for _ in range(3):
        lanes.put(waiting([50]))
    assert drained(lanes) == [[60], [50], [60], [50], [50]]


def test_texts_of_gone_callers_are_dropped() -> None:
    lanes = Lanes(BatchSettings())
    gone, here = waiting([5, 5]), waiting([5])
    lanes.put(gone)
    lanes.put(here)
    gone.done.cancel()
    batch = lanes.next_batch()
    assert [text.request for text in batch] == [here]
    assert lanes.stats.dropped == 2
    assert lanes.stats.queued_rows == 0


def test_texts_that_cannot_share_a_pass_are_kept_apart() -> None:
    lanes = Lanes(BatchSettings())
    lanes.put(waiting([5]))
    lanes.put(waiting([5], types=True))
    lanes.put(waiting([5], prompt_length=2))
    lanes.put(waiting([5], task="query"))
    assert drained(lanes) == [[5], [5], [5], [5]]


def test_one_request_must_fit_the_queue() -> None:
    with pytest.raises(ValidationError, match="max_request_tokens may not exceed"):
        BatchSettings(max_request_tokens=11, max_queued_tokens=10)
