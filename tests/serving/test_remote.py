from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError

from raybert.errors import OverloadedError
from raybert.serving import Embedder, FaultKind, RequestError, Reranker, Searcher
from raybert.serving.changes import DeleteCall
from raybert.serving.deployments import EmbedStage, RerankStage, SearchStage
from raybert.serving.messages import ClassifyCall, EmbedCall, ScoreCall, SearchCall
from raybert.serving.remote import RemoteModels, RemoteSearch
from raybert.serving.served_model import ServedModel

Run = Callable[[Awaitable[Any]], Any]


class Wire:
    """A handle of a stage in this process: everything is pickled on the way, as by Ray."""

    def __init__(self, stage: Any, fault: Exception | None = None) -> None:
        self.stage = stage
        self.fault = fault

    def __getattr__(self, method: str) -> Any:
        return Method(self, method)

    def broadcast(self, method: str) -> Any:
        return Everyone([self, self], method)


class Method:
    def __init__(self, wire: Wire, name: str) -> None:
        self.wire, self.name = wire, name

    async def remote(self, *arguments: Any) -> Any:
        if self.wire.fault is not None:
            raise self.wire.fault
        given = pickle.loads(pickle.dumps(arguments))
        return pickle.loads(pickle.dumps(await getattr(self.wire.stage, self.name)(*given)))


class Everyone:
    def __init__(self, wires: list[Wire], method: str) -> None:
        self.wires, self.method = wires, method

    async def results_async(self) -> list[Any]:
        return [await Method(wire, self.method).remote() for wire in self.wires]


def staged(kind: type[Any], stage: Any) -> Any:
    """Put an opened stage into a deployment's class without opening anything again."""
    made = object.__new__(kind)
    made.stage = made.embedder = made.reranker = stage
    if isinstance(stage, Searcher):
        made.cards = stage.cards
    return made


@pytest.fixture
def embeds(dense: Any, sparse: Any) -> RemoteModels:
    host = Embedder([ServedModel("small", dense), ServedModel("sparse", sparse)])
    handle: Any = Wire(staged(EmbedStage, host))
    return RemoteModels(handle)


@pytest.fixture
def reranks(reranker: Reranker) -> RemoteModels:
    handle: Any = Wire(staged(RerankStage, reranker))
    return RemoteModels(handle)


def test_embedding_over_the_wire(run: Run, embeds: RemoteModels, dense: Any) -> None:
    async def asked() -> tuple[Any, Any, Any, Any]:
        call = EmbedCall("small", ["the cat"])
        return (
            await embeds.embed(call),
            await embeds.embed_sparse(EmbedCall("sparse", ["cat"])),
            await embeds.similarities(ScoreCall("small", "cat", ["cat"])),
            await embeds.gauges(),
        )

    embedded, sparsely, scored, gauges = run(asked())
    np.testing.assert_array_equal(embedded.vectors, dense.encode(["the cat"]))
    assert sparsely.rows[0].terms.tolist() == [2, 3, 6]
    assert scored.scores.shape == (1,)
    assert gauges["small"]["rows"] == 2 * 3  # two replicas, summed


def test_reranking_over_the_wire(run: Run, reranks: RemoteModels) -> None:
    async def asked() -> tuple[Any, Any, Any, Any, Any]:
        return (
            await reranks.score(ScoreCall("cross", "the cat", ["the cat"], raw=True)),
            await reranks.classify(ClassifyCall("cross", [("cat", "cat")], raw=True)),
            await reranks.pieces("cross", ["the cat"], False, None),
            await reranks.decode("cross", [[6]], True),
            await reranks.cards(),
        )

    scored, classified, pieces, decoded, cards = run(asked())
    assert scored.scores.tolist() == [1.0]
    assert classified.scores.tolist() == [[0.0]]
    assert [piece.text for piece in pieces[0]] == ["the", "cat"]
    assert decoded == ["cat"]
    assert cards[0].name == "cross"


def test_searching_over_the_wire(
    run: Run, open_searcher: Callable[..., Searcher], index_uri: str
) -> None:
    async def asked() -> tuple[Any, Any]:
        searcher = open_searcher(demo=index_uri)
        await searcher.pin()
        handle: Any = Wire(staged(SearchStage, searcher))
        remote = RemoteSearch(handle)
        return await remote.search(SearchCall("demo", "cat", top_k=2)), await remote.cards()

    answer, cards = run(asked())
    assert len(answer.hits) == 2
    assert cards[0].legs == {"dense": "small"}


def test_a_fault_crosses_as_a_value_and_is_raised_here(run: Run, embeds: RemoteModels) -> None:
    with pytest.raises(RequestError, match="not served") as caught:
        run(embeds.embed(EmbedCall("none", ["a"])))
    assert caught.value.kind is FaultKind.UNKNOWN_NAME
    assert caught.value.param == "model"


def test_a_call_whose_replica_died_is_sent_again_but_a_delete_is_not(
    run: Run, embedder: Embedder
) -> None:
    class Dying(Wire):
        left = 2

        def __getattr__(self, method: str) -> Any:
            self.left -= 1
            self.fault = RayActorError() if self.left >= 0 else None
            return Method(self, method)

    twice: Any = Dying(staged(EmbedStage, embedder))
    assert run(RemoteModels(twice).embed(EmbedCall("small", ["the cat"]))).tokens > 0
    dead: Any = Dying(staged(EmbedStage, embedder))
    with pytest.raises(RequestError, match="not ready"):
        run(RemoteSearch(dead).delete(DeleteCall("live", "d1")))
    assert dead.left == 1


def test_a_full_stage_and_a_missing_one(run: Run) -> None:
    full: Any = Wire(None, BackPressureError(1, 1))
    gone: Any = Wire(None, RayError("the actor died"))
    with pytest.raises(OverloadedError, match="is full"):
        run(RemoteModels(full).cards())
    with pytest.raises(RequestError, match="not ready") as caught:
        run(RemoteModels(gone).cards())
    assert caught.value.kind is FaultKind.NOT_READY
