from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient


def vectors(answer: Any) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json(), dtype=np.float32)


def unit(rows: Any) -> np.ndarray[Any, Any]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def test_embed_is_always_a_list_of_unit_vectors(client: TestClient, dense: Any) -> None:
    answer = client.post("/embed", json={"inputs": "the cat"})
    np.testing.assert_allclose(vectors(answer), unit(dense.encode(["the cat"])), rtol=1e-6)
    assert answer.headers["x-compute-tokens"] == "4"
    plain = client.post("/embed", json={"inputs": ["the cat", "a dog"], "normalize": False})
    np.testing.assert_array_equal(vectors(plain), dense.encode(["the cat", "a dog"]))


def test_embed_takes_token_ids_prompts_and_dimensions(client: TestClient, dense: Any) -> None:
    ids = list(dense.pre(["the cat"]).input_ids[0])
    expected = unit(dense.encode(["the cat"]))
    for given in (ids, [ids]):
        found = vectors(client.post("/embed", json={"inputs": given}))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    prompted = client.post("/embed", json={"inputs": "cat", "prompt_name": "query"})
    np.testing.assert_allclose(
        vectors(prompted), unit(dense.encode(["cat"], prompt_name="query")), rtol=1e-6
    )
    cut = client.post("/embed", json={"inputs": "the cat", "dimensions": 4})
    np.testing.assert_allclose(vectors(cut), unit(dense.encode(["the cat"])[:, :4]), rtol=1e-6)


@pytest.mark.parametrize(("side", "kept"), [("Right", "cat " * 10), ("left", "cat " * 9 + "dog")])
def test_long_texts_are_cut_on_either_side(
    client: TestClient, dense: Any, side: str, kept: str
) -> None:
    body = {"inputs": "cat " * 15 + "dog", "truncation_direction": side}
    answer = client.post("/embed", json=body)
    np.testing.assert_allclose(vectors(answer), unit(dense.encode([kept])), rtol=1e-6)
    assert answer.headers["x-truncated-texts"] == "1"
    refused = client.post("/embed", json=body | {"truncate": False})
    assert refused.status_code == 422
    assert refused.json()["error_type"] == "Validation"


def test_embed_sparse(client: TestClient) -> None:
    answer = client.post("/embed_sparse", json={"inputs": ["cat the cat", "mat"]})
    assert answer.status_code == 200
    assert answer.json() == [
        [{"index": at, "value": count} for at, count in ((2, 1.0), (3, 1.0), (5, 1.0), (6, 2.0))],
        [{"index": at, "value": 1.0} for at in (2, 3, 9)],
    ]
    assert answer.headers["x-compute-tokens"] == "8"


def test_similarity(client: TestClient, dense: Any) -> None:
    body = {"inputs": {"source_sentence": "the cat", "sentences": ["the cat", "a dog"]}}
    rows = unit(dense.encode(["the cat", "a dog"]))
    np.testing.assert_allclose(
        vectors(client.post("/similarity", json=body)), [1.0, rows[0] @ rows[1]], rtol=1e-5
    )
    prompted = body | {"parameters": {"prompt_name": "query"}}
    assert not np.allclose(vectors(client.post("/similarity", json=prompted))[1], rows[0] @ rows[1])


def test_predict_gives_labels_best_first(client: TestClient) -> None:
    pair = ["the cat sat", "the cat"]
    (only,) = client.post("/predict", json={"inputs": pair}).json()
    assert only["score"] == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert only["label"] == "LABEL_0"
    raw = client.post("/predict", json={"inputs": [pair, ["a", "dog"]], "raw_scores": True})
    assert [[entry["score"] for entry in row] for row in raw.json()] == [[1.0], [-1.0]]


def test_tokenize_and_decode(client: TestClient) -> None:
    (tokens,) = client.post("/tokenize", json={"inputs": "the cat"}).json()
    assert tokens == [
        {"id": 2, "text": "[CLS]", "special": True, "start": None, "stop": None},
        {"id": 5, "text": "the", "special": False, "start": 0, "stop": 3},
        {"id": 6, "text": "cat", "special": False, "start": 4, "stop": 7},
        {"id": 3, "text": "[SEP]", "special": True, "start": None, "stop": None},
    ]
    bare = client.post("/tokenize", json={"inputs": ["cat " * 40], "add_special_tokens": False})
    assert len(bare.json()[0]) == 40
    ids = [token["id"] for token in tokens]
    assert client.post("/decode", json={"ids": ids}).json() == ["the cat"]
    kept = client.post("/decode", json={"ids": [ids, [6]], "skip_special_tokens": False})
    assert kept.json() == ["[CLS] the cat [SEP]", "cat"]


def test_info(client: TestClient) -> None:
    info = client.get("/info").json()
    assert info["model_id"] == "small"
    assert info["model_sha"] == "dense-fingerprint"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["max_input_length"], info["max_client_batch_size"]) == (12, 32)


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/embed", {}, 422, "Validation"),
        ("/embed", {"inputs": []}, 400, "Empty"),
        ("/embed", {"inputs": ""}, 400, "Empty"),
        ("/embed", {"inputs": [[]]}, 400, "Empty"),
        ("/embed", {"inputs": 1}, 422, "Validation"),
        ("/embed", {"inputs": [99]}, 422, "Validation"),
        ("/embed", {"inputs": "a", "dimensions": 0}, 422, "Validation"),
        ("/embed", {"inputs": "a", "dimensions": -3}, 422, "Validation"),
        ("/embed", {"inputs": "a", "dimensions": 17}, 422, "Validation"),
        ("/embed", {"inputs": "a", "prompt_name": "no"}, 422, "Validation"),
        ("/embed", {"inputs": "a", "truncation_direction": "up"}, 422, "Validation"),
        ("/embed", {"inputs": "a", "model": "none"}, 404, "Validation"),
        ("/embed", {"inputs": "a", "model": "cross"}, 424, "Backend"),
        ("/embed", {"inputs": "a", "model": "sparse"}, 424, "Backend"),
        ("/embed_sparse", {"inputs": "a", "model": "small"}, 424, "Backend"),
        ("/embed_sparse", {"inputs": []}, 400, "Empty"),
        ("/predict", {"inputs": "a", "model": "small"}, 424, "Backend"),
        ("/predict", {"inputs": [["a"], ["a", "b"]]}, 422, "Validation"),
        ("/predict", {"inputs": [["a", "b", "c"]]}, 422, "Validation"),
        ("/predict", {"inputs": []}, 400, "Empty"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "Empty"),
        ("/similarity", {"inputs": "a"}, 422, "Validation"),
        ("/tokenize", {"inputs": []}, 400, "Empty"),
        ("/tokenize", {"inputs": "a", "prompt_name": "no"}, 422, "Validation"),
        ("/decode", {"ids": []}, 400, "Empty"),
        ("/decode", {"ids": [99]}, 422, "Validation"),
        ("/decode", {"ids": [-1]}, 422, "Validation"),
    ],
)
def test_bad_requests(client: TestClient, path: str, body: Any, status: int, kind: str) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error_type"] == kind
    assert set(answer.json()) == {"error", "error_type"}


@pytest.mark.parametrize(("count", "status"), [(31, 200), (32, 200), (33, 422)])
def test_the_batch_limit(client: TestClient, count: int, status: int) -> None:
    answer = client.post("/embed", json={"inputs": ["cat"] * count})
    assert answer.status_code == status
    if status == 422:
        assert "max_items_tei of 32" in answer.json()["error"]


def test_a_long_pair_is_not_cut_on_the_left(serve_app: Callable[..., TestClient]) -> None:
    body = {"inputs": ["cat " * 30, "dog"], "truncation_direction": "Left"}
    answer = serve_app().post("/predict", json=body)
    assert answer.status_code == 422
    assert "right only" in answer.json()["error"]
