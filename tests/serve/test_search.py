"""`serve/search.py` on Ray Serve: together in one replica, and a deployment for each stage."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from raybert import DenseEncoder

TEXTS = ["Which city is the capital of France?", "wild yeast", "a" * 40, "naïve café ☕"]
STAGE = {"cpus": 0.5, "threads": 1}


@pytest.fixture(scope="module", params=["together", "apart"])
def url(
    request: pytest.FixtureRequest,
    served: Callable[..., str],
    definition: Callable[[str], ModuleType],
    minilm: Path,
    index_uri: str,
    live_uri: str,
) -> str:
    search = definition("search")
    values = {
        "models": {"minilm": str(minilm)},
        "indexes": {"demo": index_uri, "live": live_uri},
        "together": request.param == "together",
        "edge": STAGE,
        "embedder": STAGE,
        "searcher": STAGE,
    }
    if request.param == "apart":
        values["retrievers"] = {"demo": {"cpus": 0.25, "parts": 2}}
    args = search.SearchApp.model_validate(values)
    prefix = "/" if request.param == "together" else "/apart"
    return served(search.build(args), request.param, prefix)


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    inner = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=inner, max_retries=0)


def test_ready(url: str, http: httpx.Client) -> None:
    answer = http.get(f"{url}/health")
    assert (answer.status_code, answer.content) == (200, b"")
    assert len(answer.headers.get_list("x-request-id")) == 1


def test_the_openai_client_gets_the_encoders_own_vectors(
    client: openai.OpenAI, encoder: DenseEncoder
) -> None:
    expected = encoder.encode(TEXTS)
    for found in (
        client.embeddings.create(model="minilm", input=TEXTS),
        client.embeddings.create(model="minilm", input=TEXTS, encoding_format="float"),
    ):
        vectors = np.array([entry.embedding for entry in found.data], dtype=np.float32)
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert found.usage.total_tokens == sum(encoder.pre(TEXTS).lengths)
    cut = client.embeddings.create(model="minilm", input=TEXTS[0], dimensions=64)
    np.testing.assert_allclose(
        cut.data[0].embedding,
        expected[0, :64] / np.linalg.norm(expected[0, :64]),
        atol=1e-6,
    )
    ids = encoder.pre(TEXTS[:2]).input_ids
    by_ids = client.embeddings.create(model="minilm", input=[list(row) for row in ids])
    np.testing.assert_allclose(by_ids.data[1].embedding, expected[1], atol=1e-6)


def test_the_openai_client_understands_faults(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'gpt' is not served here") as missing:
        client.embeddings.create(model="gpt", input="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as too_long:
        client.embeddings.create(model="minilm", input="word " * 300)
    assert too_long.value.code == "context_length_exceeded"
    assert too_long.value.param == "input"
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="minilm", input=[])
    assert [model.id for model in client.models.list()] == ["minilm"]


def test_concurrent_clients_get_their_own_answers(url: str, encoder: DenseEncoder) -> None:
    texts = [f"{word} number {at}" for at in range(16) for word in ("whale", "a violin and a bow")]
    expected = encoder.encode(texts)

    async def asked() -> list[Any]:
        inner = openai.DefaultAsyncHttpxClient(trust_env=False, timeout=120)
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="none", http_client=inner
        ) as many:
            return await asyncio.gather(
                *(many.embeddings.create(model="minilm", input=text) for text in texts)
            )

    found = [answer.data[0].embedding for answer in asyncio.run(asked())]
    np.testing.assert_allclose(np.array(found), expected, atol=1e-5)


def test_search_answers_as_plain_arithmetic_does(
    url: str, http: httpx.Client, ranked: Callable[[str], list[str]], documents: dict[str, str]
) -> None:
    for query in ("capital of France", "biggest animal", "how is bread made"):
        body = {"index": "demo", "query": query, "top_k": 5, "explain": True}
        answer = http.post(f"{url}/v1/search", json=body).json()
        assert [hit["id"] for hit in answer["hits"]] == ranked(query)[:5]
        assert [hit["text"] for hit in answer["hits"]] == [
            documents[hit["id"]] for hit in answer["hits"]
        ]
        assert answer["explain"]["models"] == {"dense": "minilm"}
        assert answer["explain"]["stages_ms"]["total"] > 0


def test_search_reranked_by_similarity(url: str, http: httpx.Client) -> None:
    body = {"query": "capital of Germany", "index": "demo", "top_k": 2, "explain": True}
    body["rerank"] = True
    answer = http.post(f"{url}/v1/search", json=body).json()
    assert answer["hits"][0]["id"] == "berlin"
    assert answer["hits"][0]["legs"]["rerank"]["rank"] == 1
    assert answer["explain"]["models"]["rerank"] == "minilm"


def test_rerank(url: str, http: httpx.Client, documents: dict[str, str]) -> None:
    body = {
        "model": "minilm",
        "query": "strings and a bow",
        "documents": list(documents.values()),
        "top_n": 1,
        "return_documents": True,
    }
    answer = http.post(f"{url}/v1/rerank", json=body).json()
    assert answer["results"][0]["document"]["text"] == documents["violin"]


def test_metrics(url: str, http: httpx.Client) -> None:
    http.post(f"{url}/v1/embeddings", json={"model": "minilm", "input": "a"})
    families = {
        family.name: family
        for family in text_string_to_metric_families(http.get(f"{url}/metrics").text)
    }
    assert families["raybert_batcher_tokens"].samples[0].value > 0
    named = {sample.labels["index"] for sample in families["raybert_index_info"].samples}
    assert named == {"demo", "live"}


def test_a_document_is_found_by_the_next_query(url: str, http: httpx.Client) -> None:
    route = f"{url}/v1/indexes/live/documents"
    for number, text in enumerate(("a red fox", "nine planets", "a slow train")):
        row = {"id": f"n{number}", "text": text, "metadata": {"number": number}}
        assert http.post(route, json={"documents": [row]}).json()["upserted"] == 1
        asked = {"index": "live", "query": text, "filter": {"number": {"lte": number}}}
        best = http.post(f"{url}/v1/search", json=asked).json()["hits"][0]
        assert (best["id"], best["text"], best["fields"]) == (
            f"n{number}",
            text,
            {"number": number},
        )
        assert http.delete(f"{route}/n{number}").json()["deleted"]
        hits = http.post(f"{url}/v1/search", json=asked).json()["hits"]
        assert f"n{number}" not in [hit["id"] for hit in hits]


def test_an_unknown_route_is_worded(url: str, http: httpx.Client) -> None:
    answer = http.get(f"{url}/v1/nowhere")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_yaml_is_what_the_app_takes(
    root: Path, definition: Callable[[str], ModuleType]
) -> None:
    from ray.serve.schema import ServeDeploySchema

    for name in ("embed", "search"):
        body = yaml.safe_load((root / "serve" / f"{name}.yaml").read_text())
        schema = ServeDeploySchema.model_validate(body)
        module = definition(name)
        settings = getattr(module, f"{name.capitalize()}App")
        settings.model_validate(schema.applications[0].args)
        assert schema.applications[0].import_path == f"serve.{name}:build"
        with pytest.raises(ValidationError, match="Extra inputs"):
            settings.model_validate({**schema.applications[0].args, "modles": {}})


def test_the_import_path_is_found_from_the_checkout(root: Path, tmp_path: Path) -> None:
    script = "import serve.search, serve.embed; print(serve.search.build.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(root), "PATH": "", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "build"
