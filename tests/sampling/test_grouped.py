from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sentence_transformers.base.sampler import GroupByLabelBatchSampler as Oracle

from raybert.errors import InputError, SettingsError
from raybert.sampling import GroupByLabelBatchSampler


def test_specified_batches() -> None:
    labels = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert list(GroupByLabelBatchSampler(labels, 4, seed=1, drop_last=True)) == [[8, 9, 1, 3]]


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=4, max_size=30),
    size=st.sampled_from([4, 6, 8]),
    seed=st.integers(0, 99),
    drop_last=st.booleans(),
    world=st.integers(1, 3),
    step=st.integers(0, 4),
)
def test_laws_and_oracle(
    labels: list[int],
    size: int,
    seed: int,
    drop_last: bool,
    world: int,
    step: int,
    obey_laws: Callable[..., None],
    table: Any,
) -> None:
    assume(sum(count >= 2 for count in Counter(labels).values()) >= 2)

    def make() -> GroupByLabelBatchSampler:
        return GroupByLabelBatchSampler(labels, size, drop_last, seed)

    obey_laws(make, world, step)
    batches = list(make())
    handed_out = [row for batch in batches for row in batch]
    assert len(handed_out) == len(set(handed_out))
    for batch in batches:
        assert 4 <= len(batch) <= size
        kinds = Counter(labels[row] for row in batch)
        assert len(kinds) >= 2
        assert min(kinds.values()) >= 2
    data = table({"text": [str(n) for n in range(len(labels))], "label": labels})
    assert batches == list(Oracle(data, size, drop_last, ["label"], torch.Generator(), seed))


def test_what_cannot_be_grouped_is_refused() -> None:
    for size in (2, 5):
        with pytest.raises(SettingsError, match=f"batch_size {size}"):
            GroupByLabelBatchSampler([0, 0, 1, 1], size)
    with pytest.raises(InputError, match="1 of 3 labels"):
        GroupByLabelBatchSampler([0, 0, 1, 2], 4)
