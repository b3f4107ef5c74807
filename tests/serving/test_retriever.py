"""A leg searched by parts of its own answers as the whole index does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from raybert.errors import ArtifactError, InputError, SettingsError
from raybert.index import open_index
from raybert.serving import Directory, IndexSettings, Searcher, open_generations
from raybert.serving.messages import SearchCall
from raybert.serving.retriever import RetrieveCall, Retriever, retrieve_from
from raybert.serving.wiring import RetrieverSettings, retrieve_stages

Run = Callable[[Awaitable[Any]], Any]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_answer_as_the_whole(run: Run, sharded_uri: str, dense: Any, parts: int) -> None:
    whole = open_index(sharded_uri)
    opened = [Retriever.open(sharded_uri, part, parts) for part in range(parts)]
    queries = dense.encode(["the cat", "paris", "a dog sat"], task="query")
    for top_k in (1, 3, 9):
        call = RetrieveCall(whole.generation, queries, top_k)
        assert run(retrieve_from(opened, call)) == whole.search(queries, top_k)
    few = {"words": {"gte": 5}}
    call = RetrieveCall(whole.generation, queries, 4, few)
    assert run(retrieve_from(opened, call)) == whole.search(queries, 4, few)
    wrong = retrieve_from(opened, RetrieveCall(whole.generation, queries, 4, {"colour": "red"}))
    with pytest.raises(InputError, match="colour"):
        run(wrong)


def test_a_search_whose_leg_has_parts_answers_as_one_without(
    run: Run, sharded_uri: str, directory: Directory
) -> None:
    parts = [Retriever.open(sharded_uri, part, 2) for part in range(2)]
    indexes = {"demo": IndexSettings(legs={"dense": sharded_uri})}
    apart = Searcher(open_generations(indexes, {"demo": {"dense": parts}}), directory)
    whole = Searcher(open_generations(indexes), directory)

    async def asked(*searchers: Searcher) -> Any:
        for searcher in searchers:
            await searcher.pin()
        call = SearchCall("demo", "capital of france", top_k=3)
        return [await searcher.search(call) for searcher in searchers]

    found, expected = run(asked(apart, whole))
    assert found.hits == expected.hits
    assert found.generation == expected.generation
    assert np.diff([hit.score for hit in found.hits]).max() <= 0


def test_what_cannot_be_shared_out_is_refused(run: Run, sharded_uri: str, index_uri: str) -> None:
    with pytest.raises(ArtifactError, match=r"3 shard.s. cannot be shared by 4 parts"):
        Retriever.open(sharded_uri, 0, 4)
    other = RetrieveCall(open_index(index_uri).generation, np.zeros((1, 4), np.float32), 1)
    with pytest.raises(ArtifactError, match="is opened: restart the app"):
        run(Retriever.open(sharded_uri).retrieve(other))
    indexes = {"demo": IndexSettings(legs={"dense": index_uri, "bm25": index_uri})}
    for name in ("demo", "demo/sparse", "other/dense"):
        with pytest.raises(SettingsError, match="there are: demo/dense, demo/bm25"):
            retrieve_stages(indexes, {name: RetrieverSettings()})
    stages = retrieve_stages(indexes, {"demo/bm25": RetrieverSettings(parts=3)})
    assert {leg: len(parts) for leg, parts in stages["demo"].items()} == {"bm25": 3}
