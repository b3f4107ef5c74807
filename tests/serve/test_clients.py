"""Clients people already have, against the edge on a real socket (no Ray in between)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cohere
import huggingface_hub
import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from raybert import DenseEncoder
from raybert.encoders import EndpointEncoder
from raybert.serving import Desk, Directory, Embedder, GatewaySettings, ModelSettings, build_gateway
from raybert.serving.keys import ApiKey, KeySettings, hash_key

Rows = NDArray[np.float32]
TEXTS = ["Paris is the capital of France.", "whales", "naïve café ☕"]


@pytest.fixture(scope="module")
def url(minilm: Path, behind_uvicorn: Callable[[Any], str]) -> str:
    """The gateway over the real MiniLM; it wants the key `open-sesame`."""
    key = ApiKey(name="clients", sha256=hash_key("open-sesame"))
    models = Directory(Embedder.open({"minilm": ModelSettings(path=str(minilm))}, threads=1))
    settings = GatewaySettings(access=KeySettings(keys=(key,)))
    return behind_uvicorn(build_gateway(Desk(settings, models)))


@pytest.fixture(scope="module")
def expected(encoder: DenseEncoder) -> Rows:
    return np.asarray(encoder.encode(TEXTS), dtype=np.float32)


def test_openai(url: str, expected: Rows) -> None:
    with openai.OpenAI(
        base_url=f"{url}/v1",
        api_key="open-sesame",
        http_client=openai.DefaultHttpxClient(trust_env=False),
    ) as client:
        found = client.embeddings.create(model="minilm", input=TEXTS)
        np.testing.assert_allclose([each.embedding for each in found.data], expected, atol=1e-6)
        with pytest.raises(openai.AuthenticationError) as refused:
            client.with_options(api_key="wrong").models.list()
        assert refused.value.code == "invalid_api_key"


def test_cohere(url: str, expected: Rows) -> None:
    client = cohere.ClientV2("open-sesame", base_url=url)
    found = client.embed(
        model="minilm",
        texts=TEXTS,
        input_type="search_document",
        embedding_types=["float", "ubinary"],
    )
    np.testing.assert_allclose(np.array(found.embeddings.float_), expected, atol=1e-6)
    assert found.embeddings.ubinary == np.packbits(expected > 0, axis=1).tolist()
    ranked = client.rerank(model="minilm", query="capital city", documents=TEXTS, top_n=2)
    assert ranked.results[0].index == 0
    assert len(ranked.results) == 2
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2("wrong", base_url=url).embed(
            model="minilm", texts=TEXTS, input_type="search_query", embedding_types=["float"]
        )


def test_hugging_face(url: str, expected: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()  # its session remembers that it is offline
    client = huggingface_hub.InferenceClient(base_url=url, api_key="open-sesame")
    found = client.feature_extraction(TEXTS[0])
    huggingface_hub.close_session()
    np.testing.assert_allclose(found, expected[:1], atol=1e-6)


def test_our_own_endpoint_encoder(url: str, expected: Rows) -> None:
    endpoint = EndpointEncoder(url, "minilm", api_key="open-sesame")
    np.testing.assert_allclose(endpoint.encode(TEXTS), expected, atol=1e-6)
