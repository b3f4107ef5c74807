from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from raybert.sampling import ShuffledBatchSampler


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 30),
    size=st.integers(1, 8),
    seed=st.integers(0, 50),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    world=st.integers(1, 4),
    step=st.integers(0, 6),
)
def test_laws(
    rows: int,
    size: int,
    seed: int,
    drop_last: bool,
    shuffle: bool,
    world: int,
    step: int,
    obey_laws: Callable[..., None],
) -> None:
    def make() -> ShuffledBatchSampler:
        return ShuffledBatchSampler(rows, size, drop_last, seed, shuffle)

    obey_laws(make, world, step)
    given_out = [row for batch in make() for row in batch]
    kept = rows // size * size if drop_last else rows
    assert len(given_out) == len(set(given_out)) == kept
    assert shuffle or given_out == list(range(kept))
