"""Real embeddings of titles of the bundled corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raybert.encoders import DenseEncoder


@pytest.fixture(scope="session")
def titles(root: Path) -> list[str]:
    rows = pq.read_table(root / "data" / "demo" / "docs.parquet", columns=["title"])
    return list(dict.fromkeys(rows["title"].to_pylist()))[:1100]


@pytest.fixture(scope="session")
def title_vectors(titles: list[str], minilm: Path) -> Any:
    """[1100, 384], more rows than one tile."""
    return DenseEncoder(minilm, device="cpu").encode(titles)
