from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from raybert import DenseEncoder
from raybert.encoders.lanes import lane_count, side_by_side
from raybert.records import TokenizedTexts


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_in_order_with_the_threads_shared_out() -> None:
    met = threading.Barrier(2, timeout=60)

    def run(item: int) -> tuple[int, int]:
        met.wait()
        return item, torch.get_num_threads()

    assert lane_count() == 2
    assert list(side_by_side(run, [0, 1, 2, 3])) == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert torch.get_num_threads() == 2, "the caller keeps its own"


def test_threads_that_start_later_get_all_of_them() -> None:
    list(side_by_side(float, [1, 2, 3]))
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [2]


def test_a_fault_is_raised_and_the_lanes_live_on() -> None:
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda item: 1 / item, [1, 0, 2]))
    assert list(side_by_side(lambda item: 1 / item, [1, 2, 4])) == [1, 0.5, 0.25]


def test_none_and_one() -> None:
    assert list(side_by_side(float, [])) == []
    assert list(side_by_side(lambda item: torch.get_num_threads(), [7])) == [2]


def test_small_work_is_cut_for_all_lanes(minilm: Path) -> None:
    encoder = DenseEncoder(minilm, device="cpu")

    def cut(*lengths: int) -> list[list[int]]:
        tokens = TokenizedTexts([[5] * length for length in lengths])
        return [[lengths[row] for row in rows] for rows, _, _ in encoder.batches(tokens)]

    assert cut(18, 18, 18, 18) == [[18] * 4]  # less than 64 tokens a lane
    assert cut(*[18] * 9) == [[18] * 5, [18] * 4]
    assert cut(40, 30, 20, 10, 10, 10, 8) == [[40, 30], [20, 10, 10, 10, 8]]
    assert cut(200, 20, 20) == [[200], [20, 20]]
    assert [len(rows) for rows in cut(*[100] * 25)] == [7, 7, 7, 4]  # two batches a lane
    assert [len(rows) for rows in cut(*[100] * 500)][:3] == [10, 10, 10]
