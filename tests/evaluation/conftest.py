"""Small encoders whose vectors are written down, so that every score is known by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch


class WrittenVectors:
    """An encoder that looks its vectors up; sparse if asked, and it counts what it encodes.

    It also answers as the oracle's evaluators ask, so that both can be compared on one model.
    """

    similarity_fn_name = "cosine"

    def __init__(self, vectors: Mapping[str, Sequence[float]], *, sparse: bool = False) -> None:
        self._vectors = vectors
        self._sparse = sparse
        if sparse:
            self.similarity_fn_name = "dot"
        self.calls: list[tuple[str, int]] = []
        self.model_card_data = self

    def set_evaluation_metrics(self, *_: Any, **__: Any) -> None:
        """Take what the oracle writes on a model card."""

    def encode(self, inputs: Sequence[str], **options: Any) -> Any:
        return self._look_up("text", inputs, **options)

    def encode_query(self, inputs: Sequence[str], **options: Any) -> Any:
        return self._look_up("query", inputs, **options)

    def encode_document(self, inputs: Sequence[str], **options: Any) -> Any:
        return self._look_up("document", inputs, **options)

    def _look_up(
        self, task: str, inputs: Sequence[str], truncate_dim: int | None = None, **options: Any
    ) -> Any:
        self.calls.append((task, len(inputs)))
        rows = np.array([self._vectors[text] for text in inputs], dtype=np.float32)
        rows = rows[:, :truncate_dim]
        if self._sparse:
            return torch.from_numpy(rows).to_sparse_coo()  # type: ignore[no-untyped-call]
        if options.get("convert_to_tensor"):
            return torch.from_numpy(rows)
        return list(torch.from_numpy(rows)) if options.get("convert_to_numpy") is False else rows


class WrittenScores:
    """A cross-encoder that looks its scores up by the second text of a pair."""

    capabilities = frozenset({"rerank"})

    def __init__(self, scores: Mapping[str, Any]) -> None:
        self._scores = scores
        values = list(scores.values())
        self.num_labels = 1 if np.ndim(values[0]) == 0 else len(values[0])
        self.model_card_data = self

    def set_evaluation_metrics(self, *_: Any, **__: Any) -> None:
        """Take what the oracle writes on a model card."""

    def predict(self, pairs: Sequence[Sequence[str]], **_: Any) -> Any:
        return np.array([self._scores[text] for _, text in pairs], dtype=np.float32)


@pytest.fixture(scope="session")
def written_vectors() -> Callable[..., WrittenVectors]:
    """Return the encoder's class."""
    return WrittenVectors


@pytest.fixture(scope="session")
def written_scores() -> Callable[..., WrittenScores]:
    """Return the cross-encoder's class."""
    return WrittenScores


@pytest.fixture(scope="session")
def random_vectors() -> Callable[..., dict[str, Any]]:
    """Return a function that gives names vectors of few values, so that scores tie."""

    def draw(names: Sequence[str], seed: int, width: int = 4) -> dict[str, Any]:
        values = np.random.default_rng(seed).integers(-2, 3, (len(names), width)).astype("f4")
        return dict(zip(names, values, strict=True))

    return draw
