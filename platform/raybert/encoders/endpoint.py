"""A served model as an encoder: `POST /v1/embeddings` behind the methods people know."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import httpx
import numpy as np
import numpy.typing as npt

from raybert.errors import InputError, PlatformError
from raybert.vectors.similarity import SIMILARITIES, pick_similarity

_TRIES = 5


class EndpointEncoder:
    """Encodes with a live endpoint; an evaluator or MTEB cannot tell it from a local model.

    Texts longer than the model reads are cut, as a local encoder does. An answer of 429 or 503 is
    waited out as its `Retry-After` says, five times at most.

    Args:
        url: the server, such as `http://127.0.0.1:8000`.
        model: served model name.
        api_key: sent as a bearer token.
        batch_size: texts in a request.
        similarity_fn_name: how its vectors are compared.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"dense"})

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        batch_size: int = 64,
        similarity_fn_name: str = "cosine",
        timeout_s: float = 120.0,
    ) -> None:
        pick_similarity(similarity_fn_name)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)
        self.model = model
        self.batch_size = batch_size
        self.similarity_fn_name = similarity_fn_name

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        task: str | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return float32 [N, D]; [D] for one string.

        Raises:
            InputError: the server refuses a text or the model's name; its own words are told.
            PlatformError: the server does not answer.
        """
        batch = [texts] if isinstance(texts, str) else list(texts)
        parts = [self._vectors(part, truncate_dim, task) for part in self._requests(batch)]
        vectors = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
        if normalize_embeddings:
            norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
            vectors = vectors / np.maximum(norms, 1e-12)
        return vectors[0] if isinstance(texts, str) else vectors

    def encode_query(self, texts: str | Sequence[str], **options: Any) -> npt.NDArray[np.float32]:
        """Encode with the model's prompt for queries."""
        return self.encode(texts, task="query", **options)

    def encode_document(
        self, texts: str | Sequence[str], **options: Any
    ) -> npt.NDArray[np.float32]:
        """Encode with the model's prompt for documents."""
        return self.encode(texts, task="document", **options)

    def similarity(self, left: Any, right: Any) -> Any:
        """Return the matrix of similarities [A, B]."""
        return SIMILARITIES[self.similarity_fn_name][0](left, right)

    def similarity_pairwise(self, left: Any, right: Any) -> Any:
        """Return the similarities of the rows, [N]."""
        return SIMILARITIES[self.similarity_fn_name][1](left, right)

    def _requests(self, texts: list[str]) -> Iterator[list[str]]:
        for start in range(0, len(texts), self.batch_size):
            yield texts[start : start + self.batch_size]

    def _vectors(
        self, texts: list[str], dimensions: int | None, task: str | None
    ) -> npt.NDArray[np.float32]:
        body: dict[str, Any] = {"model": self.model, "input": texts, "truncate": True}
        body["encoding_format"] = "base64"
        if dimensions is not None:
            body["dimensions"] = dimensions
        if task is not None:
            body["task"] = task
        data = self._answer(body)["data"]
        coded = [item["embedding"] for item in sorted(data, key=lambda item: item["index"])]
        return np.stack([np.frombuffer(base64.b64decode(text), "<f4") for text in coded])

    def _answer(self, body: dict[str, Any]) -> Any:
        where = f"{self._client.base_url}v1/embeddings"
        for attempt in range(_TRIES):
            try:
                response = self._client.post("/v1/embeddings", json=body)
            except httpx.TransportError as error:
                raise PlatformError(f"{where}: no answer: {error}") from None
            if response.status_code not in (429, 503) or attempt == _TRIES - 1:
                break
            time.sleep(float(response.headers.get("Retry-After", 1)))
        if response.status_code >= 500 or response.status_code == 429:
            raise PlatformError(f"{where}: {response.status_code} {response.text[:200]}")
        if response.is_error:
            raise InputError(f"{where}: {response.status_code} {response.text[:200]}")
        return response.json()
