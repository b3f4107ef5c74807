from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

Serve = Callable[..., TestClient]


def embed(client: TestClient, given: Any, **more: Any) -> Any:
    return client.post("/v1/embeddings", json={"model": "small", "input": given, **more})


def vectors(answer: Any) -> np.ndarray[Any, Any]:
    return np.array([entry["embedding"] for entry in answer.json()["data"]], dtype=np.float32)


def test_texts_become_the_encoders_own_vectors(client: TestClient, dense: Any) -> None:
    texts = ["the cat sat", "paris", "a dog on a mat"]
    answer = embed(client, texts)
    body = answer.json()
    assert answer.status_code == 200
    np.testing.assert_array_equal(vectors(answer), dense.encode(texts))
    assert (body["object"], body["model"]) == ("list", "small")
    assert [entry["index"] for entry in body["data"]] == [0, 1, 2]
    assert body["usage"] == {"prompt_tokens": 5 + 3 + 7, "total_tokens": 15}
    assert answer.headers["x-compute-tokens"] == "15"
    assert answer.headers["x-truncated-texts"] == "0"


def test_one_text_and_the_alias(client: TestClient) -> None:
    one = embed(client, "the cat").json()
    alias = client.post("/embeddings", json={"model": "small", "input": ["the cat"]}).json()
    assert one == alias


def test_base64_is_little_endian_float32(client: TestClient) -> None:
    numbers = vectors(embed(client, ["paris"]))[0]
    text = embed(client, ["paris"], encoding_format="base64").json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text), dtype="<f4"), numbers)


def test_dimensions_cut_and_normalise(client: TestClient) -> None:
    whole = vectors(embed(client, "paris"))[0]
    cut = vectors(embed(client, "paris", dimensions=4))[0]
    np.testing.assert_allclose(cut, whole[:4] / np.linalg.norm(whole[:4]), rtol=1e-6)


def test_token_ids_with_and_without_special_tokens(client: TestClient, dense: Any) -> None:
    ids = list(dense.pre(["the cat sat"]).input_ids[0])
    expected = vectors(embed(client, "the cat sat"))
    for given in (ids, [ids], ids[1:-1], [ids[1:-1]]):
        np.testing.assert_array_equal(vectors(embed(client, given)), expected)


def test_a_task_applies_the_models_prompt(client: TestClient, dense: Any) -> None:
    asked = vectors(embed(client, ["paris"], task="query"))
    np.testing.assert_array_equal(asked, dense.encode(["paris"], task="query"))
    assert not np.array_equal(asked, vectors(embed(client, ["paris"])))
    np.testing.assert_array_equal(
        vectors(embed(client, ["paris"], task="document")), vectors(embed(client, ["paris"]))
    )


def test_unknown_keys_are_ignored(client: TestClient) -> None:
    assert embed(client, "paris", user="u", temperature=1).status_code == 200


@pytest.mark.parametrize("words", [9, 10])
def test_texts_up_to_the_models_limit_pass(client: TestClient, words: int) -> None:
    answer = embed(client, "cat " * words)
    assert answer.status_code == 200
    assert answer.headers["x-truncated-texts"] == "0"


def test_over_long_texts_are_refused_unless_told(client: TestClient, serve_app: Serve) -> None:
    refused = embed(client, ["fine", "cat " * 11])
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert "input 1 has 13 tokens; model 'small' takes at most 12" in refused.text
    for cut in (
        embed(client, "cat " * 11, truncate=True),
        embed(serve_app(auto_truncate=True), "cat " * 11),
    ):
        assert cut.status_code == 200
        assert cut.headers["x-truncated-texts"] == "1"
        assert cut.json()["usage"]["total_tokens"] == 12


def test_over_long_token_ids(client: TestClient, dense: Any) -> None:
    ids = [6] * 11
    assert embed(client, ids).json()["error"]["code"] == "context_length_exceeded"
    cut = embed(client, ids, truncate=True)
    np.testing.assert_array_equal(vectors(cut), dense.encode(["cat " * 11]))


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": "a"}, 400, "model"),
        ({"model": "small"}, 400, "input"),
        ({"model": "small", "input": ""}, 400, "input"),
        ({"model": "small", "input": []}, 400, "input"),
        ({"model": "small", "input": ["a", ""]}, 400, "input"),
        ({"model": "small", "input": [[]]}, 400, "input"),
        ({"model": "small", "input": None}, 400, "input"),
        ({"model": "small", "input": 7}, 400, "input"),
        ({"model": "small", "input": [True]}, 400, "input"),
        ({"model": "small", "input": [1.5]}, 400, "input"),
        ({"model": "small", "input": ["a", 1]}, 400, "input"),
        ({"model": "small", "input": [-1]}, 400, "input"),
        ({"model": "small", "input": [21]}, 400, "input"),
        ({"model": "small", "input": [10**30]}, 400, "input"),
        ({"model": "small", "input": "a", "dimensions": 0}, 400, "dimensions"),
        ({"model": "small", "input": "a", "dimensions": -1}, 400, "dimensions"),
        ({"model": "small", "input": "a", "dimensions": 17}, 400, "dimensions"),
        ({"model": "small", "input": "a", "dimensions": True}, 400, "dimensions"),
        ({"model": "small", "input": "a", "dimensions": 2.0}, 400, "dimensions"),
        ({"model": "small", "input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"model": "small", "input": "a", "task": "no-such"}, 400, None),
        ({"model": "none", "input": "a"}, 404, "model"),
        ({"model": "cross", "input": "a"}, 400, "model"),
        ([], 400, None),
    ],
)
def test_bad_requests(client: TestClient, body: Any, status: int, param: str | None) -> None:
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"model": "small", "input": "\\ud800"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"model": "small", "input": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"model": "small", "input": "a", "dimensions": NaN}',
    ],
)
def test_bad_bodies(client: TestClient, content: bytes) -> None:
    answer = client.post(
        "/v1/embeddings", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_of_another_type_is_told_what_is_wanted(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.status_code == 400
    assert "application/json" in answer.text


def test_odd_but_fine_texts(client: TestClient) -> None:
    assert embed(client, ["\x00", " ", "\u200b", "\U0001d56c", "é" * 300]).status_code == 200


@pytest.mark.parametrize(("count", "status"), [(2, 200), (3, 200), (4, 400)])
def test_the_items_limit(serve_app: Serve, count: int, status: int) -> None:
    answer = embed(serve_app(limits={"max_items": 3}), ["a"] * count)
    assert answer.status_code == status
    if status == 400:
        assert "limit max_items of 3" in answer.json()["error"]["message"]


def test_a_model_that_gives_nan_is_a_server_fault(client: TestClient, dense: Any) -> None:
    dense.broken = True
    answer = embed(client, "paris")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "finite" not in answer.text


def test_models_are_listed(client: TestClient) -> None:
    body = client.get("/v1/models").json()
    assert body["object"] == "list"
    first = body["data"][0]
    assert (first["id"], first["object"]) == ("small", "model")
    assert (first["dimension"], first["max_tokens"]) == (16, 12)
    assert [entry["capabilities"] for entry in body["data"]] == [
        ["dense"],
        ["sparse"],
        ["rerank"],
    ]
