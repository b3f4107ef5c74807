from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raybert.errors import PlatformError
from raybert.serving import Directory, Embedder, ModelSettings, Searcher
from raybert.serving.messages import EmbedCall, SearchCall
from raybert.serving.promotion import Promotions, put_in_place
from raybert.serving.served_model import ServedModel

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture
def next_model(dense: Any) -> ServedModel:
    """Another version of the small model, under the same name."""
    other = type(dense)()
    other.fingerprint = "next-fingerprint"
    other.table = torch.randn(64, 16, generator=torch.Generator().manual_seed(2))
    return ServedModel("small", other)


def test_a_promotion_under_load_fails_nothing_and_pinned_indexes_go_on(
    run: Run,
    open_searcher: Callable[..., Searcher],
    index_uri: str,
    embedder: Embedder,
    directory: Directory,
    next_model: ServedModel,
) -> None:
    first = embedder.models["small"]

    async def drill() -> None:
        searcher, over = open_searcher(demo=index_uri), asyncio.Event()
        await searcher.pin()
        expected = [hit.id for hit in (await searcher.search(SearchCall("demo", "cat"))).hits]
        seen = set()

        async def load() -> None:
            while not over.is_set():
                seen.add((await directory.embed(EmbedCall("small", ["a cat"]))).fingerprint)
                answer = await searcher.search(SearchCall("demo", "cat"))
                assert [hit.id for hit in answer.hits] == expected
                assert not answer.degraded

        clients = [asyncio.create_task(load()) for _ in range(4)]
        for model in (next_model, first, next_model):
            await asyncio.sleep(0.05)
            await put_in_place(embedder, model)
            now = await directory.embed(EmbedCall("small", ["a cat"]))
            assert now.fingerprint == model.card.fingerprint
            directory.forget()
            await searcher.pin()
        over.set()
        await asyncio.gather(*clients)
        assert seen == {"dense-fingerprint", "next-fingerprint"}

    run(drill())


def test_an_alias_is_followed_and_back(
    run: Run,
    embedder: Embedder,
    next_model: ServedModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    room = "raybert.serving.promotion"
    prints = {"v1": "dense-fingerprint", "v2": "next-fingerprint"}
    champion, opened = ["v1"], []
    monkeypatch.setattr(f"{room}.LOOK_S", 0)
    monkeypatch.setattr(f"{room}.model_folder", lambda _: champion[0])
    monkeypatch.setattr(f"{room}.fingerprint_folder", prints.__getitem__)

    def open_next(name: str, settings: ModelSettings, _: Any) -> ServedModel:
        opened.append((name, settings.path))
        return next_model

    monkeypatch.setattr(f"{room}.open_served", open_next)

    async def drill() -> list[str]:
        followed = ModelSettings(path="models:/small@champion")
        promotions = Promotions(embedder, {"small": followed})
        names = []
        for version in ("v1", "v2", "v2", "v1"):
            champion[0] = version
            await promotions.follow()
            names.append((await embedder.embed(EmbedCall("small", ["cat"]))).fingerprint)
        return names

    assert run(drill()) == [prints[each] for each in ("v1", "v2", "v2", "v1")]
    assert opened == [("small", "v2")]  # going back opens nothing


def test_a_replica_that_starts_late_knows_the_model_before(
    run: Run, embedder: Embedder, next_model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = "raybert.serving.promotion"
    monkeypatch.setattr(f"{room}.model_folder", lambda path: path.rpartition("@")[2])
    monkeypatch.setattr(f"{room}.fingerprint_folder", lambda _: "dense-fingerprint")
    monkeypatch.setattr(f"{room}.open_served", lambda *_: next_model)

    async def drill() -> Any:
        followed = {"small": ModelSettings(path="models:/small@champion")}
        await Promotions(embedder, followed).follow()
        by_name = await embedder.embed(EmbedCall("small", ["cat"]))
        pinned = EmbedCall("small", ["cat"], fingerprint="next-fingerprint")
        return by_name.fingerprint, (await embedder.embed(pinned)).fingerprint

    assert run(drill()) == ("dense-fingerprint", "next-fingerprint")
    assert embedder.models["small"].card.earlier == ("next-fingerprint",)


def test_a_registry_that_is_away_changes_nothing(
    run: Run, embedder: Embedder, dense: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: str) -> str:
        raise PlatformError("the registry does not answer")

    monkeypatch.setattr("raybert.serving.promotion.model_folder", away)

    async def drill() -> Any:
        promotions = Promotions(embedder, {"small": ModelSettings(path="models:/small@champion")})
        await promotions.follow()
        assert promotions.faults == {"small": "the registry does not answer"}
        return (await embedder.embed(EmbedCall("small", ["cat"]))).vectors

    np.testing.assert_allclose(run(drill()), dense.encode(["cat"]), atol=1e-6)
