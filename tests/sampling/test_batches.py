from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybert.errors import InputError, SettingsError
from raybert.sampling import Plan, RankBatches, ShuffledBatchSampler
from raybert.sampling.batches import deal_evenly


def test_a_plan_gives_its_batches() -> None:
    plan = Plan.of([[3, 1], [], [2]])
    assert len(plan) == 3
    assert [plan[step] for step in range(3)] == [[3, 1], [], [2]]
    assert len(Plan.of([])) == 0


def test_iteration_goes_on_where_it_stopped() -> None:
    sampler = ShuffledBatchSampler(10, 3)
    whole = list(ShuffledBatchSampler(10, 3))
    assert next(iter(sampler)) == whole[0]
    assert sampler.state_dict()["step"] == 1
    assert list(sampler) == whole[1:]
    assert sampler.epoch == 1
    sampler.set_epoch(1)
    assert next(iter(sampler)) != whole[0]


def test_going_to_the_current_epoch_loses_nothing() -> None:
    sampler = ShuffledBatchSampler(10, 3)
    next(iter(sampler))
    state = sampler.state_dict()
    resumed = ShuffledBatchSampler(10, 3)
    resumed.load_state_dict(state)
    resumed.set_epoch(0)
    assert resumed.step == 1
    resumed.set_epoch(2)
    assert resumed.step == 0


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (ShuffledBatchSampler(9, 3), "rows 10, here it is 9"),
        (ShuffledBatchSampler(10, 2), "batch_size 3, here it is 2"),
        (ShuffledBatchSampler(10, 3, seed=4), "seed 0, here it is 4"),
    ],
)
def test_a_state_of_other_data_is_refused(other: ShuffledBatchSampler, said: str) -> None:
    with pytest.raises(InputError, match=said):
        other.load_state_dict(ShuffledBatchSampler(10, 3).state_dict())


def test_a_run_resumes_on_another_number_of_ranks() -> None:
    two = RankBatches(ShuffledBatchSampler(12, 4), 0, 2)
    next(iter(two))
    three = [RankBatches(ShuffledBatchSampler(12, 4), rank, 3) for rank in range(3)]
    for rank in three:
        rank.load_state_dict(two.state_dict())
        rank.set_epoch(0)
    rest = [[row for part in parts for row in part] for parts in zip(*three, strict=True)]
    assert rest == list(ShuffledBatchSampler(12, 4))[1:]


@given(
    sizes=st.lists(st.integers(0, 2000), max_size=40),
    parts=st.integers(1, 5),
)
def test_items_are_dealt_in_parts_of_equal_count_and_about_equal_size(
    sizes: list[int], parts: int
) -> None:
    dealt = deal_evenly(sizes, parts)
    assert sorted(place for part in dealt for place in part) == list(range(len(sizes)))
    counts = [len(part) for part in dealt]
    assert counts == [
        len(sizes) * (part + 1) // parts - len(sizes) * part // parts for part in range(parts)
    ]
    sums = [sum(sizes[place] for place in part) for part in dealt]
    even = len(sizes) % parts == 0
    assert max(sums) - min(sums) <= max(sizes, default=0) or not even


def test_ranks_share_a_batch_by_size() -> None:
    sizes = [9, 9, 1, 1, 8, 1, 1, 1]
    ranks = [
        RankBatches(ShuffledBatchSampler(8, 8), rank, 2, lambda rows: [sizes[row] for row in rows])
        for rank in range(2)
    ]
    parts = [next(iter(rank)) for rank in ranks]
    assert sorted(parts[0] + parts[1]) == list(range(8))
    assert sorted(sum(sizes[row] for row in part) for part in parts) == [12, 19]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="batch_size 0"):
        ShuffledBatchSampler(3, 0)
    with pytest.raises(SettingsError, match="rank 2 of 2"):
        RankBatches(ShuffledBatchSampler(3, 1), 2, 2)
