from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raybert.losses.draws import Draws


@given(st.integers(-1, 6), st.integers(0, 6), st.integers(0, 3))
def test_draws_are_subsets_in_order(count: int, limit: int, seed: int) -> None:
    drawn = Draws(seed).take(count, limit)
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(range(limit))
    assert len(drawn) == (count if 0 < count < limit else limit)


def test_all_numbers_come_up_and_a_state_goes_on() -> None:
    draws = Draws(1)
    first = [draws.take(1, 4)[0] for _ in range(40)]
    assert set(first) == {0, 1, 2, 3}
    other = Draws(1)
    other.load_state_dict(draws.state_dict())
    assert [other.take(1, 4) for _ in range(5)] == [draws.take(1, 4) for _ in range(5)]
