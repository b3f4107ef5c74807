from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raybert.sampling import hash_cells


@given(st.lists(st.text() | st.integers() | st.lists(st.floats(allow_nan=False)), max_size=20))
def test_equal_values_and_only_they_have_one_number(values: list[object]) -> None:
    hashes = hash_cells({"a": values, "b": values[::-1]})
    assert hashes.shape == (len(values), 2)
    written = [str(value) for value in values]
    assert len(set(hashes[:, 0].tolist())) == len(set(written))
    assert (hashes[:, 0] == hashes[::-1, 1]).all()


def test_labels_are_left_out_and_pictures_count_by_content() -> None:
    picture = np.arange(6).reshape(2, 3)
    columns: dict[str, list[Any]] = {"anchor": [picture, picture.copy(), b"x"], "label": [1, 1, 1]}
    hashes = hash_cells(columns)
    assert hashes.shape == (3, 1)
    assert hashes[0] == hashes[1] != hashes[2]
    assert hash_cells({"label": [1, 2]}).shape == (2, 0)
    assert hash_cells({}).shape == (0, 0)
