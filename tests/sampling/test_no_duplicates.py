from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler as Oracle

from raybert.errors import InputError
from raybert.sampling import NoDuplicatesBatchSampler, hash_cells

ANCHORS = ["a", "b", "a", "c", "d", "e"]
POSITIVES = ["1", "2", "3", "1", "5", "a"]


def specified(**arguments: Any) -> NoDuplicatesBatchSampler:
    cells = hash_cells({"anchor": ANCHORS, "positive": POSITIVES})
    return NoDuplicatesBatchSampler(cells, 2, seed=12, **arguments)


def test_specified_batches() -> None:
    assert list(specified()) == [[3, 4], [1, 0], [5], [2]]
    assert len(specified()) == 4
    assert list(specified(drop_last=True)) == [[3, 4], [1, 0], [2, 1]]
    assert len(specified(drop_last=True)) == 3
    assert list(specified(drop_last=True, resample=False)) == [[3, 4], [1, 0]]


def test_equal_anchors_never_meet() -> None:
    cells = hash_cells({"anchor": ["a"] * 4, "positive": ["1", "2", "3", "4"]})
    assert list(NoDuplicatesBatchSampler(cells, 2, drop_last=True)) == []
    singles = list(NoDuplicatesBatchSampler(cells, 2))
    assert sorted(singles) == [[0], [1], [2], [3]]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_laws(data: st.DataObject, obey_laws: Callable[..., None]) -> None:
    columns = data.draw(st.integers(1, 3))
    rows = data.draw(st.integers(0, 25))
    value = st.integers(0, data.draw(st.sampled_from([2, 12, 1000])))
    cells = np.array(
        data.draw(
            st.lists(
                st.lists(value, min_size=columns, max_size=columns), min_size=rows, max_size=rows
            )
        )
    ).reshape(rows, columns)
    size, seed = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 99))
    drop_last, resample = data.draw(st.booleans()), data.draw(st.booleans())

    def make() -> NoDuplicatesBatchSampler:
        return NoDuplicatesBatchSampler(cells, size, drop_last, seed, resample)

    obey_laws(make, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 5)))
    batches = list(make())
    for batch in batches:
        values = [set(cells[row].tolist()) for row in batch]
        assert sum(map(len, values)) == len(set().union(*values)), "a value comes twice"
    handed_out = [row for batch in batches for row in batch]
    if not drop_last:
        assert sorted(handed_out) == list(range(rows)), "nothing is lost, nothing comes twice"
    elif not resample:
        assert len(handed_out) == len(set(handed_out))
    assert not drop_last or all(len(batch) == size for batch in batches)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_equals_the_oracle(data: st.DataObject, table: Any) -> None:
    rows = data.draw(st.integers(1, 25))
    letters = st.sampled_from(
        data.draw(st.sampled_from(["ab", "abcdefgh", "abcdefghijklmnopqrst"]))
    )
    columns = {
        name: data.draw(st.lists(letters, min_size=rows, max_size=rows))
        for name in ["anchor", "positive", "label"][: data.draw(st.integers(1, 3))]
    }
    size, seed = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 99))
    drop_last, epoch = data.draw(st.booleans()), data.draw(st.integers(0, 2))
    theirs = Oracle(table(columns), size, drop_last, ["label"], torch.Generator(), seed)
    theirs.set_epoch(epoch)
    ours = NoDuplicatesBatchSampler(hash_cells(columns), size, drop_last, seed)
    ours.set_epoch(epoch)
    assert list(ours) == list(theirs)


def test_a_value_shared_by_thousands_costs_little() -> None:
    """One value in a third of all rows; looking at all of them each batch would take minutes."""
    rows = 60_000
    cells = np.arange(2 * rows).reshape(rows, 2)
    cells[::3, 0] = 7
    sampler = NoDuplicatesBatchSampler(cells, 64)
    began = time.perf_counter()
    assert len(sampler) == rows // 3
    assert time.perf_counter() - began < 20


def test_cells_must_be_a_table() -> None:
    with pytest.raises(InputError, match=r"\[rows, columns\]"):
        NoDuplicatesBatchSampler(np.arange(3), 2)
