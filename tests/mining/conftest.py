"""Real embeddings of a part of the bundled corpus, and models whose vectors are written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from sentence_transformers.util import (
    cos_sim,
    dot_score,
    euclidean_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
)

from raybert.encoders import DenseEncoder

_SIMILARITIES = {
    "cosine": (cos_sim, pairwise_cos_sim),
    "dot": (dot_score, pairwise_dot_score),
    "euclidean": (euclidean_sim, pairwise_euclidean_sim),
}


class WrittenModel:
    """A model as the oracle asks it, that looks its vectors up."""

    device = torch.device("cpu")

    def __init__(self, vectors: Mapping[str, Any], similarity: str = "cosine") -> None:
        self._vectors = vectors
        self.similarity, self.similarity_pairwise = _SIMILARITIES[similarity]

    def encode_query(self, texts: Sequence[str], **_: Any) -> npt.NDArray[np.float32]:
        rows = np.array([self._vectors[text] for text in texts], dtype=np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    encode_document = encode_query


@dataclass(frozen=True)
class RealTexts:
    """Texts with vectors of the real model: [rows, 384] of titles and of texts."""

    titles: list[str]
    texts: list[str]
    title_vectors: npt.NDArray[np.float32]
    text_vectors: npt.NDArray[np.float32]

    def model(self, similarity: str = "cosine") -> WrittenModel:
        """Return the oracle's view of it."""
        vectors = dict(zip(self.titles, self.title_vectors, strict=True))
        vectors |= dict(zip(self.texts, self.text_vectors, strict=True))
        return WrittenModel(vectors, similarity)


@pytest.fixture(scope="session")
def written_model() -> type[WrittenModel]:
    return WrittenModel


@pytest.fixture(scope="session")
def real(root: Path, minilm: Path) -> RealTexts:
    """Three hundred titles and the beginnings of their texts."""
    rows = pq.read_table(root / "data" / "demo" / "docs.parquet").to_pylist()
    by_title = {row["title"]: row["text"][:200] for row in rows}
    unique = {text: title for title, text in by_title.items()}
    texts, titles = list(unique)[:300], list(unique.values())[:300]
    encoder = DenseEncoder(minilm, device="cpu")
    return RealTexts(titles, texts, encoder.encode(titles), encoder.encode(texts))
