"""Embeddings artifacts made from arrays, as `encode_corpus` writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table

WriteEmbeddings = Callable[..., str]


@pytest.fixture
def write_embeddings(tmp_path: Path) -> WriteEmbeddings:
    """Return a function that writes vectors [N, D] as an embeddings artifact and says where."""

    def write(
        vectors: Any,
        ids: Sequence[str] | None = None,
        *,
        name: str = "embeddings",
        shard_rows: int = 1000,
        similarity: str = "cosine",
        model: str = "m1",
        **encoding: Any,
    ) -> str:
        folder = Folder(tmp_path / name)
        array = np.asarray(vectors, dtype=np.float32)
        known = [f"d{row:06d}" for row in range(len(array))] if ids is None else list(ids)
        shards = []
        for at, start in enumerate(range(0, len(array), shard_rows)):
            block = array[start : start + shard_rows]
            flat = pa.array(block.reshape(-1), pa.float32())
            table = pa.table(
                {
                    "id": pa.array(known[start : start + shard_rows]),
                    "vector": pa.FixedSizeListArray.from_arrays(flat, array.shape[1]),
                    "content": pa.array(["-"] * len(block)),
                }
            )
            shards.append(write_table(folder, f"shards/{at:05d}.parquet", table))
        write_manifest(
            folder,
            Manifest(
                kind="embeddings",
                settings={
                    "model": "models/m",
                    "text_column": "text",
                    "truncate_dim": None,
                    **encoding,
                },
                rows=len(array),
                inputs=(
                    Input(kind="corpus", uri="docs.jsonl", fingerprint="c1"),
                    Input(kind="model", uri="models/m", fingerprint=model),
                ),
                shards=tuple(shards),
                details={"dimension": array.shape[1], "similarity_fn_name": similarity},
            ),
        )
        return folder.uri

    return write
