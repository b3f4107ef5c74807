from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybert.errors import InputError, SettingsError
from raybert.sampling import (
    MIXERS,
    BatchSampler,
    MixedBatchSampler,
    NoDuplicatesBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
    ShuffledBatchSampler,
)


def in_order(rows: int) -> ShuffledBatchSampler:
    return ShuffledBatchSampler(rows, 2, shuffle=False)


def test_specified_batches() -> None:
    mixed = ProportionalBatchSampler([in_order(10), in_order(4)], seed=3)
    assert list(mixed) == [[10, 11], [0, 1], [2, 3], [12, 13], [4, 5], [6, 7], [8, 9]]
    turns = RoundRobinBatchSampler([in_order(10), in_order(4)])
    assert len(turns) == 4
    assert list(turns) == [[0, 1], [10, 11], [2, 3], [12, 13]]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_laws(data: st.DataObject, obey_laws: Callable[..., None]) -> None:
    sizes = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    name, seed = data.draw(st.sampled_from(list(MIXERS))), data.draw(st.integers(0, 99))
    size = data.draw(st.integers(1, 5))

    def make() -> MixedBatchSampler:
        parts: list[BatchSampler] = [
            ShuffledBatchSampler(rows, size, seed=seed) for rows in sizes[1:]
        ]
        cells = np.arange(sizes[0])[:, None] % 5
        return MIXERS[name]([NoDuplicatesBatchSampler(cells, size, seed=seed), *parts], seed)

    obey_laws(make, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 5)))
    mixed = make()
    batches = list(mixed)
    located = [mixed.locate(batch) for batch in batches]
    for number, part in enumerate(make().parts):
        own = [rows for dataset, rows in located if dataset == number]
        planned = list(part)
        assert own == (planned if name == "proportional" else planned[: len(own)])
    if name == "proportional":
        assert sorted(row for batch in batches for row in batch) == list(range(sum(sizes)))
    else:
        shortest = min(len(part) for part in make().parts)
        assert [dataset for dataset, _ in located] == list(range(len(sizes))) * shortest


def test_a_state_of_other_parts_is_refused() -> None:
    state = RoundRobinBatchSampler([in_order(10), in_order(4)]).state_dict()
    with pytest.raises(InputError, match="parts"):
        RoundRobinBatchSampler([in_order(4), in_order(10)]).load_state_dict(state)


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(SettingsError, match="one dataset"):
        ProportionalBatchSampler([])
    with pytest.raises(InputError, match="2 datasets"):
        ProportionalBatchSampler([in_order(2), in_order(2)]).locate([1, 2])
