from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from raybert.errors import ModelError
from raybert.serving import FaultKind, RequestError
from raybert.serving import served_model as module
from raybert.serving.lanes import BatchSettings
from raybert.serving.served_model import ServedModel

Run = Callable[[Awaitable[Any]], Any]


def test_the_card_says_what_the_edge_needs(dense: Any, cross: Any) -> None:
    card = ServedModel("small", dense).card
    assert (card.name, card.dimension, card.max_tokens, card.labels) == ("small", 16, 12, 0)
    assert card.capabilities == {"dense"}
    assert card.prompts == ("query",)
    assert ServedModel("cross", cross).card.labels == 1


def test_a_text_exactly_at_the_limit_was_not_cut(run: Run, dense: Any) -> None:
    async def counted() -> tuple[int, int]:
        model = ServedModel("small", dense)
        full = await model.tokenize(["cat " * 10], truncate=False)
        cut = await model.tokenize(["cat " * 10, "cat " * 11, "cat"], truncate=True)
        return full.truncated, cut.truncated

    assert run(counted()) == (0, 1)


def test_a_prompt_counts_towards_the_limit(run: Run, dense: Any) -> None:
    async def counted() -> None:
        model = ServedModel("small", dense)
        await model.tokenize(["cat " * 8], truncate=False, task="query")
        with pytest.raises(RequestError, match="13 tokens"):
            await model.tokenize(["cat " * 9], truncate=False, task="query")

    run(counted())


@pytest.mark.parametrize(("ids", "expected"), [([6], [2, 6, 3]), ([2, 6, 3], [2, 6, 3])])
def test_token_ids_get_special_tokens_once(
    run: Run, dense: Any, ids: list[int], expected: list[int]
) -> None:
    async def wrapped() -> Any:
        return await ServedModel("small", dense).wrap_ids([ids], truncate=False)

    assert run(wrapped()).tokens.input_ids == [expected]


def test_one_request_has_a_limit_of_tokens(run: Run, dense: Any) -> None:
    async def asked(words: int) -> int:
        batch = BatchSettings(max_request_tokens=20, max_queued_tokens=20)
        model = ServedModel("small", dense, batch)
        found = await model.tokenize(["cat " * 8, "cat " * words], truncate=False)
        return len((await model.compute(found.tokens)).rows)

    assert run(asked(7)) == 2
    assert run(asked(8)) == 2
    with pytest.raises(RequestError, match="above the limit max_request_tokens of 20") as caught:
        run(asked(9))
    assert caught.value.kind is FaultKind.TOO_MANY


def test_numbers_that_are_not_finite_are_never_given(run: Run, dense: Any) -> None:
    async def asked() -> None:
        model = ServedModel("small", dense)
        dense.broken = True
        with pytest.raises(ModelError, match="not finite"):
            await model.check()
        dense.broken = False
        await model.check()
        await model.close()

    run(asked())


def test_a_model_that_hangs_fails_its_check(
    run: Run, dense: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CANARY_S", 0.05)

    async def asked() -> None:
        model = ServedModel("small", dense)
        model.batcher._wake.set = lambda: None  # type: ignore[method-assign]
        with pytest.raises(ModelError, match="no answer within"):
            await model.check()

    run(asked())


def test_wrong_task(cross: Any) -> None:
    with pytest.raises(RequestError) as caught:
        ServedModel("cross", cross).require("dense")
    assert caught.value.kind is FaultKind.WRONG_TASK


def test_gauges_count(run: Run, dense: Any) -> None:
    async def asked() -> dict[str, float]:
        model = ServedModel("small", dense)
        found = await model.tokenize(["cat", "the dog"], truncate=False)
        rows = (await model.compute(found.tokens)).rows
        np.testing.assert_array_equal(np.stack(rows), dense.encode(["cat", "the dog"]))
        return model.gauges()

    gauges = run(asked())
    assert (gauges["rows"], gauges["tokens"], gauges["computed_tokens"]) == (2, 7, 8)
