from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from raybert.index.generations import Generations
from raybert.serving import Searcher
from raybert.serving.messages import SearchAnswer, SearchCall
from raybert.serving.trial import Trial

Run = Callable[[Awaitable[Any]], Any]
Open = Callable[..., Searcher]


@pytest.fixture
def faq(
    tmp_path: Path, index_uri: str, second_uri: str, monkeypatch: pytest.MonkeyPatch
) -> Generations:
    """Two generations of the four documents; the first is current."""
    monkeypatch.setattr("raybert.serving.rollout.LOOK_S", 0.01)
    generations = Generations(str(tmp_path / "faq"))
    for uri in (index_uri, second_uri):
        generations.add({"dense": uri})
    generations.switch("g1")
    return generations


def prints(generations: Generations) -> dict[str, str]:
    return {each.legs["dense"].fingerprint: each.name for each in generations.history.generations}


async def until(searcher: Searcher, generations: Generations, name: str) -> float:
    """Ask until a generation answers, and return the seconds it took."""
    began = time.perf_counter()
    while True:
        answer = await searcher.search(SearchCall("faq", "the cat"))
        if prints(generations)[answer.generation] == name:
            return time.perf_counter() - began
        assert time.perf_counter() - began < 60
        await asyncio.sleep(0.005)


def test_switch_and_roll_back_under_load_without_a_failure(
    run: Run, open_searcher: Open, faq: Generations
) -> None:
    answers: list[SearchAnswer] = []

    async def load(searcher: Searcher, over: asyncio.Event) -> None:
        while not over.is_set():
            answers.append(await searcher.search(SearchCall("faq", "a dog", top_k=2)))
            await asyncio.sleep(0)

    async def drill() -> None:
        searcher, over = open_searcher(faq=faq.folder.uri), asyncio.Event()
        await searcher.pin()
        clients = [asyncio.create_task(load(searcher, over)) for _ in range(4)]
        await until(searcher, faq, "g1")
        for step, name in ((lambda: faq.switch("g2"), "g2"), (faq.roll_back, "g1")):
            await asyncio.to_thread(step)
            await until(searcher, faq, name)
        over.set()
        await asyncio.gather(*clients)

    run(drill())
    assert {prints(faq)[each.generation] for each in answers} == {"g1", "g2"}
    assert all(len(each.hits) == 2 and not each.degraded for each in answers)


def test_a_generation_of_a_model_that_is_not_served_is_left_out(
    run: Run, open_searcher: Open, faq: Generations, dense: Any, foreign_uri: str
) -> None:
    faq.add({"dense": foreign_uri})

    async def drill() -> str:
        searcher = open_searcher(faq=faq.folder.uri)
        await searcher.pin()
        faq.switch("g3")
        rollout = searcher.rollouts["faq"]
        await rollout.follow(searcher.models)
        await until(searcher, faq, "g1")
        return rollout.fault

    assert "which is not served" in run(drill())


def test_a_canary_answers_its_share(run: Run, open_searcher: Open, faq: Generations) -> None:
    faq.try_out("g2", 0.3)

    async def drill() -> list[str]:
        searcher = open_searcher(faq=faq.folder.uri)
        await searcher.pin()
        await searcher.rollouts["faq"].follow(searcher.models)
        calls = [SearchCall("faq", f"cat {number}") for number in range(100)]
        twice = [[await searcher.search(call) for call in calls] for _ in range(2)]
        assert [a.generation for a in twice[0]] == [b.generation for b in twice[1]]
        return [prints(faq)[each.generation] for each in twice[0]]

    assert 15 <= run(drill()).count("g2") <= 45


def test_a_shadow_only_compares(
    run: Run, open_searcher: Open, faq: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, float]] = []
    monkeypatch.setattr(Trial, "_tell", lambda _, means, __: told.append(means))
    monkeypatch.setattr("raybert.serving.trial.TELL_EVERY", 5)
    faq.try_out("g2", 1.0, shadow=True)

    async def drill() -> set[str]:
        searcher = open_searcher(faq=faq.folder.uri)
        await searcher.pin()
        await searcher.rollouts["faq"].follow(searcher.models)
        seen = set()
        while not told:
            answer = await searcher.search(SearchCall("faq", "cat", top_k=4))
            seen.add(prints(faq)[answer.generation])
            await asyncio.sleep(0.01)
        return seen

    assert run(drill()) == {"g1"}
    assert told[0]["overlap"] == 1.0  # both find all four
    assert told[0]["next_ms"] > 0
