from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from raybert.vectors import products
from raybert.vectors.products import are_plain, greatest_products


def rows(count: int, width: int = 24, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 7, 900])
@pytest.mark.parametrize("length", [900, 1024, 3001])
def test_nothing_greater_is_left_out(
    monkeypatch: pytest.MonkeyPatch, length: int, count: int
) -> None:
    monkeypatch.setattr(products, "CORPUS_TILE", 1024)
    monkeypatch.setattr(products, "QUERY_TILE", 4)
    known, asked = rows(length), rows(9, seed=1)
    keys, found = greatest_products(asked, known, count)
    expected = -np.sort(-(asked.astype(np.float64) @ known.T.astype(np.float64)), axis=1)
    np.testing.assert_allclose(-np.sort(-keys, axis=1), expected[:, :count], atol=1e-5)
    for query in range(len(asked)):
        assert len(set(found[query].tolist())) == count
        np.testing.assert_allclose(known[found[query]] @ asked[query], keys[query], atol=1e-5)


def test_rows_that_are_all_alike_are_each_found_once() -> None:
    keys, found = greatest_products(rows(2), np.repeat(rows(1, seed=2), 5000, axis=0), 300)
    assert [len(set(each)) for each in found.tolist()] == [300, 300]
    assert [len(set(each)) for each in keys.tolist()] == [1, 1]


def test_shorter_numbers_are_noticed() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert not are_plain()
    finally:
        torch.set_float32_matmul_precision(before)
    assert are_plain() == (before == "highest")
