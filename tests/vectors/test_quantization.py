from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sentence_transformers.util import quantize_embeddings

from raybert.errors import InputError
from raybert.vectors import Ranges, dequantize, quantize

CALIBRATION = np.array([[1, 20, -3], [4, 5, -60]], dtype=np.float32)
DATA = np.array([[-1, 15, 1], [2.5, 12.5, -30]], dtype=np.float32)
SIGNS = np.array([[0.1, -0.2, 0, 0.3, -1, 2, 3, -4, 5, 6]], dtype=np.float32)
floats = arrays(
    np.float32,
    st.tuples(st.integers(2, 6), st.integers(1, 20)),
    elements=st.floats(-9, 9, width=32),
)


def test_bytes_have_the_published_values() -> None:
    ranges = Ranges.of(CALIBRATION)
    assert quantize(DATA, "uint8", ranges).tolist() == [[0, 170, 255], [127, 127, 134]]
    assert quantize(DATA, "int8", ranges).tolist() == [[-128, 42, 127], [-1, -1, 6]]


def test_bits_have_the_published_values() -> None:
    packed = quantize(SIGNS, "ubinary")
    assert packed.tolist() == [[150, 192]]
    assert packed.dtype == np.uint8
    assert quantize(SIGNS, "binary").tolist() == [[22, 64]]


@given(vectors=floats)
@settings(max_examples=80, deadline=None)
@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_equals_the_oracle(precision: Any, vectors: Any) -> None:
    ranges = Ranges.of(vectors)
    table = np.stack([ranges.low, ranges.high])
    expected = quantize_embeddings(vectors, precision, ranges=table)
    np.testing.assert_array_equal(quantize(vectors, precision, ranges), expected)


@given(vectors=floats, cut=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_ranges_by_blocks_equal_ranges_at_once(vectors: Any, cut: int) -> None:
    whole = Ranges.of(vectors)
    parts = [Ranges.of(part) for part in (vectors[:cut], vectors[cut:]) if len(part)]
    merged = parts[-1] if len(parts) == 1 else parts[1].merge(parts[0])
    np.testing.assert_array_equal(merged.low, whole.low)
    np.testing.assert_array_equal(merged.high, whole.high)


@given(vectors=floats)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_a_byte_stands_for_its_bucket(precision: str, vectors: Any) -> None:
    ranges = Ranges.of(vectors)
    back = dequantize(
        quantize(vectors, precision, ranges), precision, dimension=vectors.shape[1], ranges=ranges
    )
    # the greatest value falls in bucket 255, one bucket past the 255 that span the range
    assert (np.abs(back - vectors) <= ranges.steps * 0.501 + 1e-5).all()


def test_bits_come_back_as_signs() -> None:
    signs = np.where(SIGNS > 0, 1, -1)
    for precision in ("binary", "ubinary"):
        back = dequantize(quantize(SIGNS, precision), precision, dimension=10)
        assert back.tolist() == signs.tolist()


def test_ranges_survive_a_manifest() -> None:
    ranges = Ranges.of(np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32))
    again = Ranges.from_lists(json.loads(json.dumps(ranges.as_lists())))
    np.testing.assert_array_equal(again.low, ranges.low)
    np.testing.assert_array_equal(again.high, ranges.high)


def test_a_vectors_bytes_do_not_depend_on_its_batch() -> None:
    ranges = Ranges.of(CALIBRATION)
    together = quantize(DATA, "int8", ranges)
    alone = np.concatenate([quantize(row[None], "int8", ranges) for row in DATA])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    ("vectors", "precision", "ranges", "says"),
    [
        (DATA, "int8", None, "needs the corpus's ranges"),
        (DATA[:, :2], "uint8", Ranges.of(CALIBRATION), "width 3 given for vectors 2 wide"),
        (DATA, "int4", None, "allowed are float32, int8, uint8, binary, ubinary"),
        (DATA * np.float32("nan"), "ubinary", None, "NaN or infinite"),
    ],
)
def test_faults_are_refused(vectors: Any, precision: str, ranges: Ranges, says: str) -> None:
    with pytest.raises(InputError, match=says):
        quantize(vectors, precision, ranges)


def test_ranges_need_rows_of_finite_numbers() -> None:
    with pytest.raises(InputError, match="rows of vectors"):
        Ranges.of(np.zeros((0, 3)))
    with pytest.raises(InputError, match="finite"):
        Ranges.of(np.array([[1.0, np.inf]]))
