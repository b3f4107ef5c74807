from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raybert import DenseEncoder
from raybert.errors import ModelError, SettingsError
from raybert.serving import Embedder, FaultKind, ModelSettings, RequestError, Reranker
from raybert.serving.messages import EmbedCall

Run = Callable[[Awaitable[Any]], Any]


def test_the_real_model_by_name(run: Run, minilm: Path) -> None:
    async def asked() -> Any:
        embedder = Embedder.open({"minilm": ModelSettings(path=str(minilm))}, threads=1)
        await embedder.check()
        texts = ["short", "a longer text about embeddings " * 8, "short again"]
        embedded = await embedder.embed(EmbedCall("minilm", texts))
        await embedder.close()
        return texts, embedded

    texts, embedded = run(asked())
    encoder = DenseEncoder(minilm)
    np.testing.assert_allclose(embedded.vectors, encoder.encode(texts), atol=1e-6)
    assert embedded.fingerprint == encoder.fingerprint


def test_a_shorter_limit(run: Run, minilm: Path) -> None:
    settings = ModelSettings(path=str(minilm), max_seq_length=8)
    embedder = Embedder.open({"minilm": settings}, threads=1)
    assert embedder.models["minilm"].card.max_tokens == 8


def test_unknown_names_say_what_is_served(embedder: Embedder) -> None:
    with pytest.raises(RequestError, match="served are: 'small'") as caught:
        embedder.pick("large", "dense")
    assert caught.value.kind is FaultKind.UNKNOWN_NAME


def test_no_models_are_refused() -> None:
    with pytest.raises(SettingsError, match="name at least one"):
        Reranker.open({})


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        Embedder.open({"x": ModelSettings(path=str(tmp_path / "nowhere"))})
