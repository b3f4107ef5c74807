from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybert.encoders import token_batches
from raybert.errors import SettingsError


@given(st.lists(st.integers(0, 600)), st.integers(1, 5000), st.none() | st.integers(1, 40))
def test_every_row_once_within_the_budget(
    lengths: list[int], budget: int, max_texts: int | None
) -> None:
    batches = token_batches(lengths, budget, max_texts)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        cost = max(lengths[row] for row in batch) * len(batch)
        assert cost <= budget or len(batch) == 1
        assert max_texts is None or len(batch) <= max_texts


def test_longest_first_and_stable() -> None:
    assert token_batches([3, 5, 3, 5], 10) == [[1, 3], [0, 2]]
    assert token_batches([], 10) == []


def test_padding_of_a_wide_mix_stays_within_five_percent() -> None:
    rng = random.Random(1)
    lengths = [rng.randint(10, 500) for _ in range(2000)]
    for budget in (1024, 4096, 16384):
        batches = token_batches(lengths, budget)
        computed = sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)
        assert 1 - sum(lengths) / computed <= 0.05


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="tokens_per_batch 0: must be at least 1"):
        token_batches([1], 0)
