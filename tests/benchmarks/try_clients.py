"""LangChain's and LlamaIndex's clients against a live server, in an environment of their own.

They pin other versions of `openai` than the project's tests do, so they do not fit beside them:

    python -m venv clients
    clients/bin/pip install langchain-openai langchain-huggingface \
        llama-index-embeddings-openai-like llama-index-embeddings-text-embeddings-inference
    clients/bin/python tests/benchmarks/try_clients.py http://127.0.0.1:8000 --model minilm

Every client's vectors must equal those of a plain HTTP request; the first that differs ends it.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from collections.abc import Callable
from typing import Any

TEXTS = ["Paris is the capital of France.", "whales", "naïve café ☕"]
Vectors = list[list[float]]


def langchain_openai(url: str, model: str) -> tuple[Vectors, list[float]]:
    """OpenAI's dialect; texts are sent as texts, since token ids would need OpenAI's tokenizer."""
    from langchain_openai import OpenAIEmbeddings

    client = OpenAIEmbeddings(
        model=model, base_url=f"{url}/v1", api_key="none", check_embedding_ctx_length=False
    )
    return client.embed_documents(TEXTS), client.embed_query(TEXTS[0])


def langchain_tei(url: str, model: str) -> tuple[Vectors, list[float]]:
    """TEI's dialect; the class takes no address any more, so its client is put in place."""
    from huggingface_hub import InferenceClient
    from langchain_huggingface import HuggingFaceEndpointEmbeddings

    client = HuggingFaceEndpointEmbeddings(model="served/here")
    client.client = InferenceClient(model=url)
    return client.embed_documents(TEXTS), client.embed_query(TEXTS[0])


def llama_index_openai(url: str, model: str) -> tuple[Vectors, list[float]]:
    """OpenAI's dialect."""
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    client = OpenAILikeEmbedding(model_name=model, api_base=f"{url}/v1", api_key="none")
    return client.get_text_embedding_batch(TEXTS), client.get_query_embedding(TEXTS[0])


def llama_index_tei(url: str, model: str) -> tuple[Vectors, list[float]]:
    """TEI's dialect; without the instructions it puts before texts of models it knows."""
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    client = TextEmbeddingsInference(
        model_name=model, base_url=url, query_instruction="", text_instruction=""
    )
    return client.get_text_embedding_batch(TEXTS), client.get_query_embedding(TEXTS[0])


CLIENTS: tuple[Callable[[str, str], tuple[Vectors, list[float]]], ...] = (
    langchain_openai,
    langchain_tei,
    llama_index_openai,
    llama_index_tei,
)


def plain(url: str, model: str) -> Vectors:
    """Ask without a client."""
    body = json.dumps({"model": model, "input": TEXTS}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/embeddings", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return [each["embedding"] for each in found["data"]]


def main() -> None:
    """Try every client and print a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url", help="address of the server")
    parser.add_argument("--model", default="minilm", help="served name of the model")
    arguments = parser.parse_args()
    wanted = plain(arguments.url, arguments.model)
    for client in CLIENTS:
        many, one = client(arguments.url, arguments.model)
        pairs = zip([*wanted, wanted[0]], [*many, one], strict=True)
        worst = max(abs(a - b) for row, other in pairs for a, b in zip(row, other, strict=True))
        print(f"{client.__name__:20} greatest difference {worst:.1e}", flush=True)
        if worst > 1e-6:
            raise SystemExit(f"{client.__name__}: other vectors than the server's")


if __name__ == "__main__":
    main()
