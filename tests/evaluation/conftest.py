"""A small encoder whose vectors are written down, so that every score is known by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch


class WrittenVectors:
    """An encoder that looks its vectors up; sparse if asked, and it counts what it encodes."""

    similarity_fn_name = "cosine"

    def __init__(self, vectors: Mapping[str, Sequence[float]], *, sparse: bool = False) -> None:
        self._vectors = vectors
        self._sparse = sparse
        if sparse:
            self.similarity_fn_name = "dot"
        self.calls: list[tuple[str, int]] = []

    def encode(self, inputs: Sequence[str], **options: Any) -> Any:
        return self._look_up("text", inputs, **options)

    def encode_query(self, inputs: Sequence[str], **options: Any) -> Any:
        return self._look_up("query", inputs, **options)

    def encode_document(self, inputs: Sequence[str], **options: Any) -> Any:
        return self._look_up("document", inputs, **options)

    def _look_up(self, task: str, inputs: Sequence[str], truncate_dim: int | None = None) -> Any:
        self.calls.append((task, len(inputs)))
        rows = np.array([self._vectors[text] for text in inputs], dtype=np.float32)
        rows = rows[:, :truncate_dim]
        if not self._sparse:
            return rows
        return torch.from_numpy(rows).to_sparse_coo()  # type: ignore[no-untyped-call]


@pytest.fixture
def written_vectors() -> Callable[..., WrittenVectors]:
    """Return the encoder's class."""
    return WrittenVectors
