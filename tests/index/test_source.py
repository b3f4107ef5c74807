from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.corpus.columns import vector_table
from raybert.errors import InputError
from raybert.index.source import Embeddings
from raybert.vectors.quantization import Ranges


def written(folder: Path, precision: str, vectors: np.ndarray, ranges: Ranges | None) -> str:
    table = vector_table(vectors, precision, ranges)
    table = table.add_column(0, "id", [[f"d{row}" for row in range(len(vectors))]])
    details = {"precision": precision} | ({} if ranges is None else {"ranges": ranges.as_lists()})
    shard = write_table(Folder(folder), "shards/00000.parquet", table)
    inputs = (Input(kind="model", uri="m", fingerprint="f"),)
    manifest = Manifest(kind="embeddings", shards=(shard,), inputs=inputs, details=details)
    write_manifest(Folder(folder), manifest)
    return str(folder)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_bytes_are_read_as_floats_by_their_ranges(tmp_path: Path, precision: str) -> None:
    vectors = np.random.default_rng(1).standard_normal((50, 8)).astype(np.float32)
    ranges = Ranges.of(vectors)
    ((_, found),) = Embeddings.open(written(tmp_path, precision, vectors, ranges)).tables()
    assert found.dtype == np.float32
    assert (np.abs(found - vectors) <= ranges.steps * 0.5001).all()


def test_bits_are_refused(tmp_path: Path) -> None:
    vectors = np.ones((3, 8), np.float32)
    with pytest.raises(InputError, match="an index is built from float vectors"):
        list(Embeddings.open(written(tmp_path, "ubinary", vectors, None)).tables())
