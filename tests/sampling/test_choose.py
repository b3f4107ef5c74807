from __future__ import annotations

from typing import Any

import pytest

from raybert.errors import InputError, SettingsError
from raybert.sampling import (
    GroupByLabelBatchSampler,
    NoDuplicatesBatchSampler,
    RoundRobinBatchSampler,
    ShuffledBatchSampler,
    choose_sampler,
    mix_samplers,
)

COLUMNS: dict[str, list[Any]] = {"text": ["a", "b", "a", "c"], "label": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("batch_sampler", ShuffledBatchSampler),
        ("no_duplicates", NoDuplicatesBatchSampler),
        ("no_duplicates_hashed", NoDuplicatesBatchSampler),
        ("group_by_label", GroupByLabelBatchSampler),
    ],
)
def test_samplers_are_found_by_their_names(name: str, kind: type) -> None:
    sampler = choose_sampler(name, COLUMNS, 4, seed=3)
    assert type(sampler) is kind
    assert (sampler.rows, sampler.batch_size, sampler.seed) == (4, 4, 3)
    assert sorted(row for batch in sampler for row in batch) == [0, 1, 2, 3]


def test_labels_do_not_count_as_duplicates() -> None:
    batches = list(choose_sampler("no_duplicates", COLUMNS, 4))
    assert sorted(map(len, batches)) == [1, 3]


def test_mixers_are_found_by_their_names() -> None:
    parts = [ShuffledBatchSampler(4, 2)] * 2
    assert isinstance(mix_samplers("round_robin", parts), RoundRobinBatchSampler)
    with pytest.raises(SettingsError, match="proportional, round_robin"):
        mix_samplers("alternating", parts)


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="no_duplicates, "):
        choose_sampler("random", COLUMNS, 2)
    with pytest.raises(InputError, match="the data has text"):
        choose_sampler("group_by_label", {"text": ["a"]}, 4)
