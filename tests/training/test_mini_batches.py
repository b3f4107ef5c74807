from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raybert.errors import SettingsError
from raybert.records import TokenizedTexts
from raybert.training.mini_batches import MiniBatches, Rows, TensorRows


@given(
    lengths=st.lists(st.integers(1, 50), max_size=40),
    rows=st.integers(1, 9),
    tokens=st.none() | st.integers(1, 120),
)
def test_every_row_is_in_one_mini_batch_within_its_bounds(
    lengths: list[int], rows: int, tokens: int | None
) -> None:
    parts = MiniBatches(rows, tokens).split(lengths)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        assert 1 <= len(part) <= rows
        width = max(lengths[row] for row in part)
        assert tokens is None or len(part) == 1 or len(part) * width <= tokens


def test_equal_lengths_lie_together() -> None:
    assert MiniBatches(rows=2).split([1, 9, 1, 9]) == [[1, 3], [0, 2]]


def test_features_are_cut_to_what_their_rows_need() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]])
    rows: Rows = TensorRows({"input_ids": mask * 5, "attention_mask": mask, "x": torch.ones(3, 7)})
    assert len(rows) == 3
    assert rows.lengths == [2, 4, 3]
    taken = rows.take([2, 0])
    assert taken["input_ids"].tolist() == [[0, 5, 5], [5, 5, 0]]
    assert taken["attention_mask"].shape == (2, 3)
    assert taken["x"].shape == (2, 7)
    plain = TensorRows({"x": torch.arange(3)})
    assert plain.lengths == [1, 1, 1]
    assert plain.take([1])["x"].tolist() == [1]


def test_tokenized_texts_are_rows() -> None:
    rows: Rows = TokenizedTexts([[1, 2, 3], [4]])
    assert rows.take(MiniBatches(1).split(rows.lengths)[1]).input_ids == [[4]]


@pytest.mark.parametrize("name", ["rows", "tokens", "loss_rows"])
def test_empty_mini_batches_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"mini-batch {name} 0"):
        MiniBatches(**{name: 0})
