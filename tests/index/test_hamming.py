from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raybert.index import hamming
from raybert.index.hamming import BitRows


@pytest.mark.parametrize("width", [3, 16])
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_nearest_rows_are_found_and_the_first_of_those_alike(
    width: int, few: bool, queries: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hamming, "cpu_count", lambda: threads)
    monkeypatch.setattr(hamming, "_ROWS_A_THREAD", 1)
    monkeypatch.setattr(hamming, "_SPARE", 10)
    draw = np.random.default_rng(width)
    codes = draw.integers(0, 256, (2500, width), dtype=np.uint8)
    codes[500:2000] = codes[7]  # many at one distance
    asked: Any = np.concatenate([codes[7:8], draw.integers(0, 256, (4, width), dtype=np.uint8)])
    asked = asked[:queries]
    allowed = draw.random(len(codes)) < 0.1 if few else None
    rows = np.arange(len(codes)) if allowed is None else np.flatnonzero(allowed)
    for count in (1, 40, len(rows)):
        found, places = BitRows(codes).nearest(asked, count, allowed)
        for at, query in enumerate(asked):
            distances = np.unpackbits(codes[rows] ^ query, axis=1).sum(axis=1, dtype=np.int64)
            expected = rows[np.lexsort((rows, distances))][:count]
            assert sorted(expected.tolist()) == places[at].tolist()
            assert sorted(distances)[:count] == sorted(found[at].tolist())


def test_bits_in_a_mapped_file_are_read_where_they_lie(tmp_path: Any) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (50, 8), dtype=np.uint8)
    (tmp_path / "codes").write_bytes(b"odd" + codes.tobytes())
    mapped = np.memmap(tmp_path / "codes", np.uint8, "r", offset=3, shape=(50, 8))
    _, places = BitRows(mapped).nearest(codes[9:10], 1, None)
    assert places.tolist() == [[9]]
