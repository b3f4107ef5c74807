from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybert.training.passes import cheapest_passes


def cost(widths: list[list[int]], overhead: int) -> int:
    return sum(len(part) * max(part) + overhead for part in widths)


def cuts(widths: list[int]) -> Iterator[list[list[int]]]:
    """Yield every way to cut a list into consecutive parts."""
    if not widths:
        yield []
    for size in range(1, len(widths) + 1):
        for rest in cuts(widths[size:]):
            yield [widths[:size], *rest]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.integers(1, 8),
    st.one_of(st.none(), st.integers(8, 120)),
    st.integers(0, 40),
)
def test_no_other_cut_costs_less(
    lengths: list[int], rows: int, tokens: int | None, overhead: int
) -> None:
    found = cheapest_passes(lengths, rows, tokens, overhead)
    assert sorted(row for part in found for row in part) == list(range(len(lengths)))

    def allowed(part: list[int]) -> bool:
        within = tokens is None or len(part) * max(part) <= tokens
        return len(part) == 1 or (len(part) <= rows and within)

    widths = [[lengths[row] for row in part] for part in found]
    assert all(map(allowed, widths))
    others = [each for each in cuts(sorted(lengths, reverse=True)) if all(map(allowed, each))]
    assert cost(widths, overhead) == min(cost(each, overhead) for each in others)


@pytest.mark.parametrize(
    ("overhead", "passes"),
    [(0, [[1], [3], [0, 2]]), (30, [[1, 3], [0, 2]]), (1000, [[1, 3, 0, 2]])],
)
def test_dear_passes_are_few(overhead: int, passes: list[list[int]]) -> None:
    assert cheapest_passes([8, 100, 8, 90], 10, None, overhead) == passes


def test_no_rows_are_no_passes() -> None:
    assert cheapest_passes([], 4, 10, 5) == []
