from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from raybert.artifacts import Input
from raybert.index.live import LiveIndex, create_live
from raybert.serving import Directory, Embedder, Searcher, hash_key
from raybert.serving.served_model import ServedModel

URL = "/v1/indexes/live/documents"


@pytest.fixture
def live(tmp_path: Path, dense: Any) -> LiveIndex:
    """An empty live index of the small model."""
    model = Input(kind="model", uri="models/m", fingerprint=dense.fingerprint)
    encoding = {"text_column": "body"}
    return create_live(str(tmp_path / "live"), model=model, dimension=16, encoding=encoding)


@pytest.fixture
def client(
    serve_app: Callable[..., TestClient],
    open_searcher: Callable[..., Searcher],
    live: LiveIndex,
    index_uri: str,
) -> TestClient:
    searcher = open_searcher(live=live.folder.uri, fixed=index_uri)
    asyncio.run(searcher.pin())
    return serve_app(searcher)


def found(client: TestClient, query: str, **more: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/search", json={"index": "live", "query": query, **more})
    assert answer.status_code == 200, answer.text
    hits: list[dict[str, Any]] = answer.json()["hits"]
    return hits


def document(identifier: str, text: str, **metadata: Any) -> dict[str, Any]:
    return {"id": identifier, "text": text, "metadata": metadata}


def test_a_document_is_found_by_the_next_query_and_gone_after_its_deletion(
    client: TestClient,
) -> None:
    assert found(client, "cat") == []
    first = [document("a/1", "the cat sat", year=2001), document("b", "paris", year=1999)]
    answer = client.post(URL, json={"documents": first})
    assert answer.status_code == 200, answer.text
    assert answer.json()["upserted"] == 2
    assert int(answer.headers["x-compute-tokens"]) > 0
    best = found(client, "the cat sat")[0]
    assert (best["id"], best["text"], best["fields"]) == ("a/1", "the cat sat", {"year": 2001})
    assert client.post(URL, json={"documents": [document("b", "a dog")]}).status_code == 200
    assert found(client, "a dog")[0]["text"] == "a dog"
    assert len(found(client, "a dog")) == 2
    answer = client.delete(f"{URL}/a/1")
    assert answer.json() == {
        "index": "live",
        "id": "a/1",
        "deleted": True,
        "generation": answer.json()["generation"],
    }
    assert [hit["id"] for hit in found(client, "the cat sat")] == ["b"]
    assert client.delete(f"{URL}/a/1").status_code == 404


def test_vectors_are_those_of_a_corpus_encoded_before(
    client: TestClient, documents: dict[str, str]
) -> None:
    rows = [document(name, text) for name, text in documents.items()]
    assert client.post(URL, json={"documents": rows}).status_code == 200
    answers = [
        client.post("/v1/search", json={"index": index, "query": "the cat"}).json()["hits"]
        for index in ("live", "fixed")
    ]
    assert [(hit["id"], hit["text"]) for hit in answers[0]] == [
        (hit["id"], hit["text"]) for hit in answers[1]
    ]
    for ours, fixed in zip(*answers, strict=True):
        assert ours["score"] == pytest.approx(fixed["score"], abs=1e-6)


def test_documents_are_written_to_a_dense_and_a_sparse_leg(
    tmp_path: Path,
    serve_app: Callable[..., TestClient],
    open_searcher: Callable[..., Searcher],
    live: LiveIndex,
    dense: Any,
    sparse: Any,
) -> None:
    model = Input(kind="model", uri="models/s", fingerprint=sparse.fingerprint)
    encoding = {"text_column": "body"}
    lists = create_live(
        str(tmp_path / "lists"),
        model=model,
        dimension=32,
        metric="dot",
        kind="inverted",
        encoding=encoding,
    )
    served = Embedder([ServedModel("small", dense), ServedModel("sparse", sparse)])
    legs = {"dense": live.folder.uri, "sparse": lists.folder.uri}
    searcher = open_searcher(Directory(served), live=legs)
    asyncio.run(searcher.pin())
    client = serve_app(searcher)
    rows = [document("a", "the cat sat"), document("b", "paris"), document("c", "a dog")]
    assert client.post(URL, json={"documents": rows}).status_code == 200
    best = found(client, "the cat sat", explain=True)[0]
    assert best["id"] == "a"
    assert set(best["legs"]) == {"dense", "sparse"}
    assert found(client, "dog", retrievers=["sparse"])[0]["id"] == "c"
    assert client.delete(f"{URL}/c").status_code == 200
    left = found(client, "dog", retrievers=["sparse"])
    assert sorted(hit["id"] for hit in left) == ["a", "b"]


def test_filters(client: TestClient) -> None:
    rows = [document(f"d{year}", "a cat", year=year, tags=["x"]) for year in (1999, 2001)]
    client.post(URL, json={"documents": rows})
    assert [hit["id"] for hit in found(client, "cat", filter={"year": {"gt": 2000}})] == ["d2001"]
    assert len(found(client, "cat", filter={"tags": "x"})) == 2
    answer = client.post(
        "/v1/search", json={"index": "live", "query": "cat", "filter": {"month": 1}}
    )
    assert answer.status_code == 400
    assert "no column 'month'" in answer.json()["error"]["message"]


def test_another_replica_sees_it_at_once(
    client: TestClient,
    serve_app: Callable[..., TestClient],
    open_searcher: Callable[..., Searcher],
    live: LiveIndex,
    dense: Any,
) -> None:
    models = Directory(Embedder([ServedModel("small", dense)]))
    other = open_searcher(models, live=live.folder.uri)
    asyncio.run(other.pin())
    beside = serve_app(other)
    for number in range(5):
        writes, reads = (client, beside) if number % 2 else (beside, client)
        row = document(f"d{number}", f"cat {'mat ' * number}")
        assert writes.post(URL, json={"documents": [row]}).status_code == 200
        assert f"d{number}" in [hit["id"] for hit in found(reads, "cat")]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"documents": []}, "`documents` cannot be empty"),
        ({"documents": [document("", "a")]}, "documents.0.id"),
        ({"documents": [document("a", "")]}, "documents.0.text"),
        ({"documents": [document("a", "x"), document("a", "y")]}, "id 'a' stands twice"),
        ({"documents": [document("a", "x", body="y")]}, "'body' is the index's own"),
        ({"documents": [document("a", "x", n=1), document("b", "x", n="1")]}, "several types"),
        ({"documents": [document("a", "x")] * 4}, "more than the limit max_documents of 3"),
        ({"documents": [document("a", "x" * 41)]}, "more than the limit max_chars of 40"),
        ({"documents": [{"id": "a", "text": "x", "meta": {}}]}, "documents.0.meta"),
    ],
)
def test_what_cannot_be_taken_is_refused(
    serve_app: Callable[..., TestClient],
    open_searcher: Callable[..., Searcher],
    live: LiveIndex,
    body: Any,
    says: str,
) -> None:
    searcher = open_searcher(live=live.folder.uri)
    asyncio.run(searcher.pin())
    client = serve_app(searcher, limits={"max_documents": 3, "max_chars": 40})
    answer = client.post(URL, json=body)
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["error"]["message"]
    assert len(live) == 0


def test_an_index_that_is_not_live_or_not_there(client: TestClient) -> None:
    body = {"documents": [document("a", "x")]}
    answer = client.post("/v1/indexes/fixed/documents", json=body)
    assert (answer.status_code, "is not live" in answer.text) == (400, True)
    assert client.delete("/v1/indexes/fixed/documents/d1").status_code == 400
    answer = client.post("/v1/indexes/none/documents", json=body)
    assert (answer.status_code, "'none' is not served here" in answer.text) == (404, True)


def test_a_write_key_is_needed_and_leaves_an_audit_line(
    serve_app: Callable[..., TestClient],
    open_searcher: Callable[..., Searcher],
    live: LiveIndex,
    caplog: pytest.LogCaptureFixture,
) -> None:
    searcher = open_searcher(live=live.folder.uri)
    asyncio.run(searcher.pin())
    keys = [{"name": each, "sha256": hash_key(each), "scope": each} for each in ("read", "write")]
    client = serve_app(searcher, access={"keys": keys})
    body = {"documents": [document("a", "a cat")]}
    for key, status in ((None, 401), ("other", 401), ("read", 403), ("write", 200)):
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        with caplog.at_level(logging.INFO, "raybert.serving.audit"):
            assert client.post(URL, json=body, headers=headers).status_code == status
            assert client.delete(f"{URL}/a", headers=headers).status_code == status
    lines = [each.getMessage() for each in caplog.records if "audit" in each.name]
    assert len(lines) == 2
    assert lines[0].startswith(f"key=write method=POST path={URL} request=")
    assert "a cat" not in "".join(lines)
