from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

QUERY = "the capital of france"
TEXTS = ["a dog", "paris is the capital of france", "the cat", "a dog"]
POINTS = np.array([-1.0, 3.0, 0.0, -1.0])
SCORES = 1 / (1 + np.exp(-POINTS))


def test_jina(client: TestClient) -> None:
    body = {"model": "cross", "query": QUERY, "documents": TEXTS, "return_documents": True}
    answer = client.post("/v1/rerank", json=body)
    found = answer.json()
    assert answer.status_code == 200
    assert (found["object"], found["model"]) == ("list", "cross")
    assert [entry["index"] for entry in found["results"]] == [1, 2, 0, 3]
    assert found["results"][0]["document"] == {"text": TEXTS[1]}
    np.testing.assert_allclose(
        [entry["relevance_score"] for entry in found["results"]], SCORES[[1, 2, 0, 3]], rtol=1e-6
    )
    assert found["usage"]["total_tokens"] == int(answer.headers["x-compute-tokens"])
    assert found["meta"]["api_version"]["version"] == "1"


def test_documents_as_objects_top_n_and_raw_scores(client: TestClient) -> None:
    documents = [{"text": text} for text in TEXTS]
    body = {"query": QUERY, "documents": documents, "top_n": 2, "raw_scores": True}
    found = client.post("/v1/rerank", json=body).json()
    assert [entry["relevance_score"] for entry in found["results"]] == [3.0, 0.0]
    assert "document" not in found["results"][0]
    assert found["model"] == "cross"
    body["top_n"] = 0
    assert len(client.post("/v1/rerank", json=body).json()["results"]) == 4


def test_cohere(client: TestClient) -> None:
    body = {"model": "cross", "query": QUERY, "documents": TEXTS, "top_n": 3}
    found = client.post("/v2/rerank", json=body).json()
    assert [entry["index"] for entry in found["results"]] == [1, 2, 0]
    assert set(found["results"][0]) == {"index", "relevance_score"}
    assert found["meta"]["billed_units"] == {"search_units": 1}


def test_tei(client: TestClient) -> None:
    found = client.post("/rerank", json={"query": QUERY, "texts": TEXTS}).json()
    assert [entry["index"] for entry in found] == [1, 2, 0, 3]
    assert "text" not in found[0]
    body = {"query": QUERY, "texts": TEXTS, "return_text": True, "raw_scores": True}
    assert client.post("/rerank", json=body).json()[0] == {
        "index": 1,
        "score": 3.0,
        "text": TEXTS[1],
    }


def test_a_dense_model_answers_with_its_similarity(client: TestClient, dense: Any) -> None:
    body = {"model": "small", "query": QUERY, "documents": TEXTS}
    found = client.post("/v1/rerank", json=body).json()["results"]
    query = dense.encode([QUERY], task="query")[0]
    vectors = dense.encode(TEXTS)
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    scores = {entry["index"]: entry["relevance_score"] for entry in found}
    np.testing.assert_allclose([scores[at] for at in range(4)], cosine, rtol=1e-5)


def test_long_texts_are_cut_and_counted_or_refused(client: TestClient) -> None:
    body = {"query": QUERY, "texts": ["cat " * 50]}
    cut = client.post("/rerank", json=body)
    assert cut.headers["x-truncated-texts"] == "1"
    refused = client.post("/rerank", json=body | {"truncate": False})
    assert refused.status_code == 422
    assert refused.json()["error_type"] == "Validation"
    assert "at most 24" in refused.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "key"),
    [
        ("/v1/rerank", {"query": QUERY}, 422, "detail"),
        ("/v1/rerank", {"query": QUERY, "documents": []}, 422, "detail"),
        ("/v1/rerank", {"query": QUERY, "documents": [1]}, 422, "detail"),
        ("/v1/rerank", {"query": "", "documents": ["a"]}, 422, "detail"),
        ("/v1/rerank", {"query": QUERY, "documents": ["a"], "top_n": -1}, 422, "detail"),
        ("/v1/rerank", {"query": QUERY, "documents": ["a"], "model": "no"}, 404, "detail"),
        ("/v2/rerank", {"query": QUERY, "documents": ["a"]}, 400, "message"),
        ("/v2/rerank", {"model": "cross", "query": QUERY, "documents": []}, 400, "message"),
        ("/v2/rerank", {"model": "no", "query": QUERY, "documents": ["a"]}, 404, "message"),
        ("/rerank", {"query": QUERY, "texts": []}, 400, "error"),
        ("/rerank", {"query": QUERY, "texts": "a"}, 422, "error"),
        ("/rerank", {"query": QUERY}, 422, "error"),
    ],
)
def test_bad_requests(client: TestClient, path: str, body: Any, status: int, key: str) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()[key], str)


@pytest.mark.parametrize(("count", "status"), [(2, 200), (3, 200), (4, 422)])
def test_the_documents_limit(serve_app: Callable[..., TestClient], count: int, status: int) -> None:
    client = serve_app(limits={"max_documents": 3})
    body = {"query": QUERY, "documents": ["a"] * count}
    answer = client.post("/v1/rerank", json=body)
    assert answer.status_code == status
    if status == 422:
        assert "max_documents of 3" in answer.json()["detail"]
