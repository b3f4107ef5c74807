from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

TEXTS = ["the cat sat", "paris"]


def ask(client: TestClient, **body: Any) -> Any:
    given = {"model": "small", "input_type": "search_document", "texts": TEXTS}
    return client.post("/v2/embed", json=given | body)


def unit(rows: Any) -> np.ndarray[Any, Any]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def test_floats_by_default(client: TestClient, dense: Any) -> None:
    body = ask(client).json()
    np.testing.assert_allclose(body["embeddings"]["float"], unit(dense.encode(TEXTS)), rtol=1e-6)
    assert body["texts"] == TEXTS
    assert body["meta"]["billed_units"] == {"input_tokens": 8}
    assert body["response_type"] == "embeddings_by_type"


def test_queries_get_the_query_prompt(client: TestClient, dense: Any) -> None:
    body = ask(client, input_type="search_query").json()
    expected = unit(dense.encode(TEXTS, task="query"))
    np.testing.assert_allclose(body["embeddings"]["float"], expected, rtol=1e-6)
    plain = ask(client, input_type="clustering").json()["embeddings"]["float"]
    np.testing.assert_allclose(plain, unit(dense.encode(TEXTS)), rtol=1e-6)


def test_every_number_format(client: TestClient, dense: Any) -> None:
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    found = ask(client, embedding_types=kinds).json()["embeddings"]
    vectors = unit(dense.encode(TEXTS)).astype(np.float32)
    assert list(found) == kinds
    assert found["ubinary"] == np.packbits(vectors > 0, axis=1).tolist()
    assert found["binary"] == (np.packbits(vectors > 0, axis=1).astype(int) - 128).tolist()
    assert (np.array(found["uint8"]) - 128 == np.array(found["int8"])).all()
    step = 2 * 4 / np.sqrt(16) / 255
    restored = (np.array(found["int8"]) + 128 + 0.5) * step - 4 / np.sqrt(16)
    np.testing.assert_allclose(restored, vectors, atol=step)
    decoded = [np.frombuffer(base64.b64decode(text), dtype="<f4") for text in found["base64"]]
    np.testing.assert_allclose(decoded, vectors, rtol=1e-6)


def test_bytes_do_not_depend_on_the_rest_of_the_request(client: TestClient) -> None:
    both = ask(client, embedding_types=["int8"]).json()["embeddings"]["int8"]
    one = ask(client, texts=TEXTS[1:], embedding_types=["int8"]).json()["embeddings"]["int8"]
    assert both[1:] == one


def test_output_dimension(client: TestClient, dense: Any) -> None:
    body = ask(client, output_dimension=8, embedding_types=["float", "ubinary"]).json()
    expected = unit(dense.encode(TEXTS)[:, :8])
    np.testing.assert_allclose(body["embeddings"]["float"], expected, rtol=1e-6)
    assert [len(row) for row in body["embeddings"]["ubinary"]] == [1, 1]


def test_truncate(client: TestClient, dense: Any) -> None:
    long = ["dog " + "cat " * 15 + "mat"]
    end = ask(client, texts=long).json()["embeddings"]["float"]
    start = ask(client, texts=long, truncate="START").json()["embeddings"]["float"]
    np.testing.assert_allclose(end, unit(dense.encode(["dog " + "cat " * 9])), rtol=1e-6)
    np.testing.assert_allclose(start, unit(dense.encode(["cat " * 9 + "mat"])), rtol=1e-6)
    refused = ask(client, texts=long, truncate="NONE")
    assert refused.status_code == 400
    assert "at most 12" in refused.json()["message"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"texts": None}, 400, "cannot be empty"),
        ({"texts": []}, 400, "cannot be empty"),
        ({"texts": [""]}, 400, "empty"),
        ({"texts": ["cat"] * 97}, 400, "must be at most 96 - received 97"),
        ({"input_type": "poem"}, 400, "input_type"),
        ({"input_type": "image"}, 400, "`texts` only"),
        ({"images": ["data:"]}, 400, "`texts` only"),
        ({"embedding_types": []}, 400, "embedding_types"),
        ({"embedding_types": ["int4"]}, 400, "embedding_types"),
        ({"output_dimension": 12, "embedding_types": ["binary"]}, 400, "divisible by 8"),
        ({"output_dimension": 17}, 400, "has 16"),
        ({"max_tokens": 5}, 400, "max_tokens 5"),
        ({"model": "none"}, 404, "not served"),
        ({"model": "cross"}, 400, "cannot make embeddings"),
    ],
)
def test_bad_requests(client: TestClient, body: Any, status: int, said: str) -> None:
    answer = ask(client, **body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["message"]
    assert said in answer.json()["message"]


def test_96_texts_pass(client: TestClient) -> None:
    assert ask(client, texts=["cat"] * 96).status_code == 200
