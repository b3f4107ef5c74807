from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from raybert.serving import Directory, Embedder, FaultKind, RequestError, Reranker
from raybert.serving.messages import EmbedCall, ScoreCall
from raybert.serving.served_model import ServedModel

Run = Callable[[Awaitable[Any]], Any]


def test_cards_of_every_stage(run: Run, directory: Directory) -> None:
    assert list(run(directory.cards())) == ["small", "cross"]


def test_the_first_that_can(run: Run, directory: Directory, embedder: Embedder) -> None:
    assert run(directory.first("rerank", "dense")).name == "cross"
    assert run(Directory(embedder).first("rerank", "dense")).name == "small"
    with pytest.raises(RequestError, match="no model here can do sparse"):
        run(directory.first("sparse"))


def test_scoring_takes_what_the_model_can(run: Run, directory: Directory) -> None:
    async def both() -> tuple[float, float]:
        cross = await directory.score(ScoreCall("cross", "the cat", ["the cat"], raw=True))
        dense = await directory.score(ScoreCall("small", "query : cat", ["query : cat"]))
        return float(cross.scores[0]), float(dense.scores[0])

    points, cosine = run(both())
    assert points == 1.0
    assert 0 < cosine <= 1.0001


def test_a_cross_encoder_makes_no_embeddings(run: Run, directory: Directory) -> None:
    with pytest.raises(RequestError, match="cannot make embeddings; it can do: rerank") as caught:
        run(directory.embed(EmbedCall("cross", ["a"])))
    assert caught.value.kind is FaultKind.WRONG_TASK


def test_one_name_in_two_stages_is_refused(run: Run, embedder: Embedder, cross: Any) -> None:
    twice = Directory(embedder, Reranker([ServedModel("small", cross)]))
    with pytest.raises(RequestError, match="two stages serve a model named 'small'"):
        run(twice.cards())
