from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from raybert.serving import BatchSettings, Embedder, RequestError
from raybert.serving.messages import EmbedCall, ScoreCall
from raybert.serving.served_model import ServedModel

Run = Callable[[Awaitable[Any]], Any]


def test_concurrent_requests_get_their_own_rows(run: Run, dense: Any) -> None:
    texts = [[f"{'cat ' * (at % 7 + 1)}{'dog ' * (at % 3)}"] * (at % 4 + 1) for at in range(60)]

    async def asked() -> list[Any]:
        embedder = Embedder([ServedModel("small", dense, BatchSettings(max_batch_tokens=64))])
        calls = [embedder.embed(EmbedCall("small", each)) for each in texts]
        return await asyncio.gather(*calls)

    found = run(asked())
    shared = len(dense.batches)
    for each, embedded in zip(texts, found, strict=True):
        np.testing.assert_array_equal(embedded.vectors, dense.encode(each))
    assert shared < len(texts)


def test_normalize_on_and_off(run: Run, embedder: Embedder, dense: Any) -> None:
    async def both() -> list[Any]:
        return [
            (await embedder.embed(EmbedCall("small", ["cat"], normalize=each))).vectors[0]
            for each in (True, False)
        ]

    unit, plain = run(both())
    assert np.linalg.norm(unit) == pytest.approx(1.0)
    np.testing.assert_array_equal(plain, dense.encode(["cat"])[0])


def test_no_texts_give_no_vectors(run: Run, embedder: Embedder) -> None:
    assert run(embedder.embed(EmbedCall("small", []))).vectors.shape == (0, 16)


@pytest.mark.parametrize("dimensions", [0, 17])
def test_dimensions_beyond_the_models(run: Run, embedder: Embedder, dimensions: int) -> None:
    with pytest.raises(RequestError, match="has 16, allowed is 1 up to that"):
        run(embedder.embed(EmbedCall("small", ["cat"], dimensions=dimensions)))


def test_similarities_use_both_prompts(run: Run, embedder: Embedder, dense: Any) -> None:
    scored = run(embedder.similarities(ScoreCall("small", "cat", ["cat", "paris"])))
    query = dense.encode(["cat"], task="query")[0]
    texts = dense.encode(["cat", "paris"])
    cosine = texts @ query / np.linalg.norm(texts, axis=1) / np.linalg.norm(query)
    np.testing.assert_allclose(scored.scores, cosine, rtol=1e-5)
