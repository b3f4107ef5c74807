from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from raybert.serving import Directory, Embedder, Reranker, Searcher
from raybert.serving.served_model import ServedModel


@pytest.fixture
def client(
    serve_app: Callable[..., TestClient],
    open_searcher: Callable[..., Searcher],
    index_uri: str,
    dense: Any,
    cross: Any,
) -> TestClient:
    models = Directory(
        Embedder([ServedModel("small", dense)]), Reranker([ServedModel("cross", cross)])
    )
    searcher = open_searcher(models, demo=index_uri)
    asyncio.run(searcher.pin())
    return serve_app(searches=searcher, limits={"max_top_k": 10, "max_chars": 40})


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/search", json=body)


def test_hits_with_id_text_and_score(client: TestClient, documents: dict[str, str]) -> None:
    answer = ask(client, index="demo", query="capital of france", top_k=2)
    body = answer.json()
    assert answer.status_code == 200
    assert list(body) == ["index", "hits", "degraded"]
    assert len(body["hits"]) == 2
    assert list(body["hits"][0]) == ["id", "text", "score", "fields"]
    assert body["hits"][0]["text"] == documents[body["hits"][0]["id"]]
    assert body["hits"][0]["score"] >= body["hits"][1]["score"]


def test_the_only_index_need_not_be_named(client: TestClient) -> None:
    assert ask(client, query="cat", top_k=1).json()["index"] == "demo"


def test_explain_says_leg_ranks_stage_times_model_and_generation(client: TestClient) -> None:
    body = ask(client, query="the cat", top_k=3, rerank="cross", explain=True).json()
    explain = body["explain"]
    assert explain["models"] == {"dense": "small", "rerank": "cross"}
    assert len(explain["generation"]) >= 16
    assert {"encode_dense", "retrieve_dense", "rerank", "total"} <= set(explain["stages_ms"])
    assert explain["stages_ms"]["total"] >= explain["stages_ms"]["rerank"] >= 0
    for rank, hit in enumerate(body["hits"], start=1):
        assert hit["legs"]["rerank"]["rank"] == rank
        assert hit["legs"]["rerank"]["score"] == hit["score"]
        assert set(hit["legs"]["dense"]) == {"rank", "score"}


def test_rerank_true_takes_the_servers_reranker(client: TestClient) -> None:
    body = ask(client, query="the cat", top_k=1, rerank=True, explain=True).json()
    assert body["explain"]["models"]["rerank"] == "cross"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "`query`"),
        ({"query": ""}, 400, "`query`"),
        ({"query": "x" * 41}, 400, "max_chars of 40"),
        ({"query": "q", "top_k": 0}, 400, "`top_k`"),
        ({"query": "q", "top_k": 11}, 400, "max_top_k of 10"),
        ({"query": "q", "top_k": True}, 400, "`top_k`"),
        ({"query": "q", "candidates": 11}, 400, "max_top_k of 10"),
        ({"query": "q", "retrievers": []}, 400, "`retrievers`"),
        ({"query": "q", "retrievers": ["bm25"]}, 400, "has: dense"),
        ({"query": "q", "fusion": "magic"}, 400, "`fusion`"),
        ({"query": "q", "filter": {"year": 1}}, 400, "no column 'year'"),
        ({"query": "q", "deadline_ms": 0}, 400, "`deadline_ms`"),
        ({"query": "q", "unknown": 1}, 400, "`unknown`"),
        ({"query": "q", "index": "none"}, 404, "'none' is not served"),
        ({"query": "q", "rerank": "none"}, 404, "'none' is not served"),
        ({"query": "q", "deadline_ms": 1e-9}, 504, "deadline"),
    ],
)
def test_bad_requests(client: TestClient, body: Any, status: int, said: str) -> None:
    answer = client.post("/v1/search", json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]


def test_indexes_are_listed(client: TestClient) -> None:
    (entry,) = client.get("/v1/indexes").json()["data"]
    assert (entry["id"], entry["rows"], entry["legs"]) == ("demo", 4, {"dense": "small"})


def test_a_server_without_an_index_says_so(serve_app: Callable[..., TestClient]) -> None:
    bare = serve_app()
    assert bare.get("/v1/indexes").json()["data"] == []
    answer = ask(bare, query="q")
    assert answer.status_code == 404
    assert "no index" in answer.json()["error"]["message"]
