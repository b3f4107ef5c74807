from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from raybert.errors import OverloadedError
from raybert.records import TokenizedTexts
from raybert.serving.batcher import TokenBatcher
from raybert.serving.lanes import BatchSettings

Run = Callable[[Awaitable[Any]], Any]


def texts(*ids: list[int]) -> TokenizedTexts:
    return TokenizedTexts(list(ids))


class Model:
    """A forward pass that sums the ids of each text, and can be held, or fail on an id."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.free = threading.Event()
        self.free.set()
        self.poison = -1

    def __call__(self, tokens: TokenizedTexts) -> list[int]:
        self.free.wait(10)
        self.batches.append(len(tokens))
        if any(self.poison in ids for ids in tokens.input_ids):
            raise ValueError("poison")
        return [sum(ids) for ids in tokens.input_ids]


@pytest.fixture
def model() -> Model:
    return Model()


def batcher(model: Model, **settings: Any) -> TokenBatcher[int]:
    return TokenBatcher(model, BatchSettings(**settings), ThreadPoolExecutor(1))


def test_rows_come_back_in_their_own_order(run: Run, model: Model) -> None:
    async def asked() -> list[int]:
        found = await batcher(model, max_batch_tokens=4).submit(
            texts([1], [2, 2, 2], [3], [4, 4, 4])
        )
        return found.rows

    assert run(asked()) == [1, 6, 3, 12]
    assert len(model.batches) > 1


def test_requests_that_arrive_while_the_model_works_share_a_pass(run: Run, model: Model) -> None:
    async def asked() -> list[Any]:
        shared = batcher(model)
        model.free.clear()
        tasks = [asyncio.create_task(shared.submit(texts([at]))) for at in range(20)]
        await asyncio.sleep(0.05)
        model.free.set()
        return await asyncio.gather(*tasks)

    assert [found.rows for found in run(asked())] == [[at] for at in range(20)]
    assert len(model.batches) <= 2


def test_a_full_queue_refuses_at_once_and_recovers(run: Run, model: Model) -> None:
    async def asked() -> None:
        full = batcher(model, max_queued_tokens=10, max_request_tokens=10, max_batch_tokens=10)
        model.free.clear()
        tasks = [asyncio.create_task(full.submit(texts([1] * 10)))]
        await asyncio.sleep(0.02)  # the first is with the model, not in the queue
        tasks.append(asyncio.create_task(full.submit(texts([2] * 10))))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="limit max_queued_tokens of 10"):
            await full.submit(texts([3]))
        assert full.stats.rejected == 1
        model.free.set()
        assert [found.rows for found in await asyncio.gather(*tasks)] == [[10], [20]]
        assert (await full.submit(texts([3]))).rows == [3]

    run(asked())


def test_a_canary_passes_a_full_queue(run: Run, model: Model) -> None:
    async def asked() -> None:
        full = batcher(model, max_queued_tokens=4, max_request_tokens=4, max_batch_tokens=4)
        model.free.clear()
        tasks = [asyncio.create_task(full.submit(texts([1] * 4)))]
        await asyncio.sleep(0.02)
        tasks.append(asyncio.create_task(full.submit(texts([2] * 4))))
        await asyncio.sleep(0)
        canary = asyncio.create_task(full.submit(texts([9]), first=True))
        await asyncio.sleep(0)
        model.free.set()
        done, _ = await asyncio.wait([*tasks, canary], return_when=asyncio.ALL_COMPLETED)
        assert len(done) == 3
        assert canary.result().queue_ms <= tasks[1].result().queue_ms

    run(asked())


def test_a_bad_text_harms_only_its_own_request(run: Run, model: Model) -> None:
    async def asked() -> list[Any]:
        shared = batcher(model)
        model.poison = 66
        model.free.clear()
        tasks = [asyncio.create_task(shared.submit(texts([at], [at]))) for at in (1, 2, 66, 3)]
        await asyncio.sleep(0.05)
        model.free.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, bad, third = run(asked())
    assert (first.rows, second.rows, third.rows) == ([1, 1], [2, 2], [3, 3])
    assert isinstance(bad, ValueError)


def test_work_of_a_caller_that_left_is_dropped(run: Run, model: Model) -> None:
    async def asked() -> None:
        shared = batcher(model, max_batch_tokens=1)
        model.free.clear()
        running = asyncio.create_task(shared.submit(texts([1])))
        await asyncio.sleep(0.02)
        leaving = asyncio.create_task(shared.submit(texts([2], [3])))
        staying = asyncio.create_task(shared.submit(texts([4])))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        model.free.set()
        assert (await staying).rows == [4]
        assert (await running).rows == [1]
        assert shared.stats.dropped == 2
        assert model.batches == [1, 1]

    run(asked())


def test_closing_tells_everyone_who_waits(run: Run, model: Model) -> None:
    async def asked() -> list[Any]:
        shared = batcher(model, max_batch_tokens=1)
        model.free.clear()
        tasks = [asyncio.create_task(shared.submit(texts([at]))) for at in range(3)]
        await asyncio.sleep(0.02)
        await shared.close()
        model.free.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = run(asked())
    assert all(isinstance(answer, OverloadedError) for answer in answers)


def test_an_idle_model_may_wait_for_company(run: Run, model: Model) -> None:
    async def asked() -> None:
        patient = batcher(model, max_wait_ms=400.0)
        first = asyncio.create_task(patient.submit(texts([1])))
        await asyncio.sleep(0.005)
        second = asyncio.create_task(patient.submit(texts([2])))
        await asyncio.gather(first, second)

    run(asked())
    assert model.batches == [2]


def test_nothing_asked_is_answered_at_once(run: Run, model: Model) -> None:
    async def asked() -> list[int]:
        return (await batcher(model).submit(texts())).rows

    assert run(asked()) == []
    assert model.batches == []
