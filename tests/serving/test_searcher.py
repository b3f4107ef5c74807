from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from raybert.errors import ArtifactError, InputError, OverloadedError
from raybert.serving import Directory, Embedder, FaultKind, RequestError, Reranker, Searcher
from raybert.serving.messages import ScoreCall, SearchCall
from raybert.serving.served_model import ServedModel

Run = Callable[[Awaitable[Any]], Any]
Open = Callable[..., Searcher]


async def pinned(searcher: Searcher, call: SearchCall) -> Any:
    await searcher.pin()
    return await searcher.search(call)


def test_hits_are_those_of_the_encoder_and_the_index(
    run: Run, open_searcher: Open, index_uri: str, dense: Any, documents: dict[str, str]
) -> None:
    answer = run(pinned(open_searcher(demo=index_uri), SearchCall("demo", "capital of france")))
    query = dense.encode(["capital of france"], task="query")[0]
    vectors = dense.encode(list(documents.values()))
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    expected = [list(documents)[at] for at in np.argsort(-cosine)]
    assert [hit.id for hit in answer.hits] == expected
    np.testing.assert_allclose([hit.score for hit in answer.hits], sorted(cosine)[::-1], rtol=1e-5)
    first = answer.hits[0]
    assert first.text == documents[first.id]
    assert first.fields == {"words": len(first.text.split())}
    assert first.legs["dense"].rank == 1
    assert answer.models == {"dense": "small"}
    assert answer.degraded == {}
    assert set(answer.stages_ms) >= {"encode_dense", "retrieve_dense", "fuse", "fetch", "total"}


def test_top_k(run: Run, open_searcher: Open, index_uri: str) -> None:
    answer = run(pinned(open_searcher(demo=index_uri), SearchCall("demo", "cat", top_k=2)))
    assert len(answer.hits) == 2


def test_an_index_of_another_model_is_refused_at_the_start(
    run: Run, open_searcher: Open, index_uri: str, dense: Any
) -> None:
    dense.fingerprint = "another"
    models = Directory(Embedder([ServedModel("small", dense)]))
    searcher = open_searcher(models, demo=index_uri)
    with pytest.raises(ArtifactError, match=r"dense-fingerprint.*'small' \(another\)"):
        run(searcher.pin())


def test_a_model_that_changed_while_serving_never_answers(
    run: Run, open_searcher: Open, index_uri: str, embedder: Embedder, directory: Directory
) -> None:
    async def swapped() -> None:
        searcher = open_searcher(demo=index_uri)
        await searcher.pin()
        card = embedder.models["small"].card
        embedder.models["small"].card = card.__class__(
            "small", card.capabilities, "another", card.dimension, card.max_tokens
        )
        with pytest.raises(RequestError) as caught:
            await searcher.search(SearchCall("demo", "cat"))
        assert caught.value.kind is FaultKind.NOT_READY

    run(swapped())


def test_two_legs_are_fused_and_explained(
    run: Run, open_searcher: Open, index_uri: str, second_uri: str
) -> None:
    async def asked() -> tuple[Any, Any]:
        searcher = open_searcher(demo={"dense": index_uri, "half": second_uri})
        both = await pinned(searcher, SearchCall("demo", "the cat", candidates=4))
        one = await searcher.search(SearchCall("demo", "the cat", retrievers=["half"]))
        return both, one

    both, one = run(asked())
    for hit in both.hits:
        ranks = [place.rank for place in hit.legs.values()]
        assert hit.score == pytest.approx(sum(1 / (60 + rank) for rank in ranks))
    assert set(both.hits[0].legs) == {"dense", "half"}
    assert set(one.hits[0].legs) == {"half"}


def test_a_narrow_index_gets_cut_queries(
    run: Run, open_searcher: Open, second_uri: str, dense: Any, documents: dict[str, str]
) -> None:
    answer = run(pinned(open_searcher(half=second_uri), SearchCall("half", "a dog")))
    query = dense.encode(["a dog"], task="query")[0][:8]
    vectors = dense.encode(list(documents.values()))[:, :8]
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    np.testing.assert_allclose([hit.score for hit in answer.hits], sorted(cosine)[::-1], rtol=1e-5)


def test_a_cross_encoder_orders_the_candidates(
    run: Run, open_searcher: Open, index_uri: str
) -> None:
    call = SearchCall("demo", "the capital of france", top_k=3, rerank="cross")
    answer = run(pinned(open_searcher(demo=index_uri), call))
    assert answer.hits[0].id == "d2"
    assert answer.hits[0].score == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert answer.hits[0].legs["rerank"].rank == 1
    assert answer.models["rerank"] == "cross"
    assert "rerank" in answer.stages_ms


class Slow(Reranker):
    """A reranking stage that takes its time, or refuses."""

    def __init__(self, reranker: Reranker, fault: Exception | None = None) -> None:
        super().__init__(reranker.models.values())
        self.fault = fault

    async def score(self, call: ScoreCall) -> Any:
        if self.fault is not None:
            raise self.fault
        await asyncio.sleep(5)


def test_a_late_reranker_is_left_out_and_said(
    run: Run, open_searcher: Open, index_uri: str, embedder: Embedder, reranker: Reranker
) -> None:
    searcher = open_searcher(Directory(embedder, Slow(reranker)), demo=index_uri)
    call = SearchCall("demo", "cat", rerank="cross", deadline_ms=300)
    answer = run(pinned(searcher, call))
    assert answer.degraded == {"rerank": "late"}
    assert answer.stages_ms["total"] < 2000
    assert len(answer.hits) == 4


def test_a_full_reranker_is_left_out_and_said(
    run: Run, open_searcher: Open, index_uri: str, embedder: Embedder, reranker: Reranker
) -> None:
    full = Slow(reranker, OverloadedError("the queue is full"))
    searcher = open_searcher(Directory(embedder, full), demo=index_uri)
    answer = run(pinned(searcher, SearchCall("demo", "cat", rerank="cross")))
    assert answer.degraded == {"rerank": "the queue is full"}


def test_a_deadline_that_passes_before_retrieval_is_a_fault(
    run: Run, open_searcher: Open, index_uri: str
) -> None:
    searcher = open_searcher(demo=index_uri)
    with pytest.raises(TimeoutError):
        run(pinned(searcher, SearchCall("demo", "cat", deadline_ms=1e-6)))


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (SearchCall("none", "q"), FaultKind.UNKNOWN_NAME, "served are: 'demo'"),
        (SearchCall("demo", "q", retrievers=["bm25"]), FaultKind.INVALID, "has: dense"),
        (SearchCall("demo", "q", rerank="none"), FaultKind.UNKNOWN_NAME, "'none'"),
    ],
)
def test_unknown_names(
    run: Run, open_searcher: Open, index_uri: str, call: SearchCall, kind: FaultKind, said: str
) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        run(pinned(open_searcher(demo=index_uri), call))
    assert caught.value.kind is kind


def test_the_canary_searches_every_index(
    run: Run, open_searcher: Open, index_uri: str, second_uri: str
) -> None:
    async def checked() -> list[Any]:
        searcher = open_searcher(demo=index_uri, half=second_uri)
        await searcher.pin()
        await searcher.check()
        return await searcher.cards()

    cards = run(checked())
    assert [(card.name, card.rows, card.legs) for card in cards] == [
        ("demo", 4, {"dense": "small"}),
        ("half", 4, {"dense": "small"}),
    ]


def test_legs_of_every_kind_are_asked_side_by_side(
    run: Run,
    open_searcher: Open,
    index_uri: str,
    bm25_uri: str,
    sparse_uri: str,
    dense: Any,
    sparse: Any,
) -> None:
    models = Directory(Embedder([ServedModel("small", dense), ServedModel("sparse", sparse)]))
    legs = {"dense": index_uri, "words": bm25_uri, "sparse": sparse_uri}
    searcher = open_searcher(models, demo=legs)
    call = SearchCall("demo", "capital of france", top_k=2, explain=True)
    answer = run(pinned(searcher, call))
    assert answer.degraded == {}
    assert answer.models == {"dense": "small", "words": "bm25", "sparse": "sparse"}
    assert answer.hits[0].id == "d2"
    ranks = {name: place.rank for name, place in answer.hits[0].legs.items()}
    assert set(ranks) == {"dense", "words", "sparse"}
    assert (ranks["words"], ranks["sparse"]) == (1, 1)
    assert answer.tokens > 0
    first = answer.hits[0]
    assert {each.term for each in first.terms["sparse"]} >= {"capital", "france"}
    parts = sum(each.score for each in first.terms["sparse"])
    assert parts == pytest.approx(first.legs["sparse"].score)
    assert set(first.terms) == {"sparse"}


def test_a_filter_that_cannot_be_answered_is_the_callers_fault(
    run: Run, open_searcher: Open, index_uri: str, bm25_uri: str
) -> None:
    async def asked() -> Any:
        searcher = open_searcher(demo={"dense": index_uri, "words": bm25_uri}, one=index_uri)
        call = SearchCall("demo", "cat", filter={"nothing": 1})
        with pytest.raises(InputError, match="no column 'nothing'"):
            await pinned(searcher, call)
        return await searcher.search(SearchCall("one", "a", filter={"words": 2}))

    assert [hit.id for hit in run(asked()).hits] == ["d3"]
