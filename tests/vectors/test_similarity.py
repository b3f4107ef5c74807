from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sentence_transformers import util as oracle

from raybert.errors import InputError
from raybert.vectors import (
    SIMILARITIES,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    pairwise_angle_sim,
    pairwise_cos_sim,
    pick_similarity,
)

A = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
P = [[1.0, 0.2], [0.1, 1.0], [1.0, 0.5]]
ORACLE = {
    "cosine": (oracle.cos_sim, oracle.pairwise_cos_sim),
    "dot": (oracle.dot_score, oracle.pairwise_dot_score),
    "euclidean": (oracle.euclidean_sim, oracle.pairwise_euclidean_sim),
    "manhattan": (oracle.manhattan_sim, oracle.pairwise_manhattan_sim),
}
values = st.floats(-4, 4, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)
rows = arrays(np.float32, st.tuples(st.integers(1, 5), st.just(6)), elements=values)


@given(a=rows, b=rows)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", SIMILARITIES)
def test_matrix_and_pairs_equal_the_oracle(name: str, a: Any, b: Any) -> None:
    matrix, pairwise = ORACLE[name]
    ours = SIMILARITIES[name]
    torch.testing.assert_close(ours.matrix(a, b), matrix(a, b), rtol=1e-5, atol=1e-5)
    count = min(len(a), len(b))
    torch.testing.assert_close(
        ours.pairwise(a[:count], b[:count]), pairwise(a[:count], b[:count]), rtol=1e-5, atol=1e-5
    )


def test_distances_are_negative() -> None:
    assert euclidean_sim([1, 2], [3, 4]).item() == pytest.approx(-2.82843, abs=1e-5)
    assert manhattan_sim([1, 2], [3, 4]).item() == -4


def test_equal_rows_are_exactly_zero_apart() -> None:
    many = np.random.default_rng(0).standard_normal((60, 384)).astype(np.float32)
    assert torch.equal(euclidean_sim(many, many).diag(), torch.zeros(60))


def test_zero_vector_has_cosine_zero() -> None:
    assert cos_sim([[0.0, 0.0]], A).tolist() == [[0.0, 0.0, 0.0]]
    assert pairwise_cos_sim([0.0, 0.0], [1.0, 0.0]).tolist() == [0.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("name", SIMILARITIES)
def test_narrow_formats_give_float32(name: str, dtype: torch.dtype) -> None:
    ours = SIMILARITIES[name]
    narrow = torch.tensor(A).to(dtype)
    assert ours.matrix(narrow, narrow).dtype == torch.float32
    assert ours.pairwise(narrow, narrow).dtype == torch.float32


def test_angle_similarity_has_the_published_values() -> None:
    expected = torch.tensor([0.78446, 1.09454, 1.26491])
    torch.testing.assert_close(pairwise_angle_sim(A, P), expected, rtol=0, atol=1e-5)


def test_angle_similarity_pads_odd_widths_and_equals_the_oracle() -> None:
    draw = torch.Generator().manual_seed(3)
    left, right = (torch.randn(7, 6, generator=draw) for _ in range(2))
    torch.testing.assert_close(
        pairwise_angle_sim(left, right), oracle.pairwise_angle_sim(left, right)
    )
    odd = pairwise_angle_sim(left[:, :5], right[:, :5])
    zero = torch.zeros(7, 1)
    even = pairwise_angle_sim(torch.cat([left[:, :5], zero], 1), torch.cat([right[:, :5], zero], 1))
    torch.testing.assert_close(odd, even)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("sides", ["both", "left", "right"])
def test_sparse_rows_score_as_their_dense_form(name: str, sides: str) -> None:
    draw = torch.Generator().manual_seed(1)
    left, right = (torch.relu(torch.randn(4, 50, generator=draw)) for _ in range(2))
    left[2] = 0
    first = left.to_sparse_coo() if sides != "right" else left  # type: ignore[no-untyped-call]
    second = right.to_sparse_coo() if sides != "left" else right  # type: ignore[no-untyped-call]
    ours = SIMILARITIES[name]
    torch.testing.assert_close(ours.matrix(first, second), ours.matrix(left, right))
    torch.testing.assert_close(ours.pairwise(first, second), ours.pairwise(left, right))


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_gradients_pass_where_both_sides_are_sparse() -> None:
    draw = torch.Generator().manual_seed(2)
    left, right = (torch.relu(torch.randn(4, 50, generator=draw)) for _ in range(2))
    told, expected = left.clone().requires_grad_(), left.clone().requires_grad_()
    dot_score(told.to_sparse_coo(), right.to_sparse_coo()).square().sum().backward()  # type: ignore[no-untyped-call]
    dot_score(expected, right).square().sum().backward()  # type: ignore[no-untyped-call]
    assert told.grad is not None
    kept = left != 0  # a value that a sparse row does not hold has no gradient
    torch.testing.assert_close(told.grad[kept], expected.grad[kept])  # type: ignore[index]


def test_lists_arrays_and_tensors_are_one() -> None:
    expected = dot_score(torch.tensor(A), torch.tensor(P))
    assert torch.equal(dot_score(A, P), expected)
    assert torch.equal(dot_score([torch.tensor(row) for row in A], np.array(P, "f4")), expected)
    assert torch.equal(dot_score(A[0], P), expected[:1])


def test_similarities_pass_gradients_on_even_at_distance_zero() -> None:
    same = torch.ones(2, 4, requires_grad=True)
    SIMILARITIES["euclidean"].pairwise(same, same.detach()).sum().backward()  # type: ignore[no-untyped-call]
    assert same.grad is not None
    assert torch.isfinite(same.grad).all()


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0, 3.0]], "2 and 3 wide"),
        ([["a", "b"]], [[1.0, 2.0]], "must be numbers"),
        ([[1.0], [2.0, 3.0]], [[1.0]], "must be numbers"),
        (np.zeros((1, 1, 1)), [[1.0]], "one or two dimensions"),
    ],
)
def test_bad_vectors_are_refused_in_one_line(a: Any, b: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        cos_sim(a, b)
    assert "\n" not in str(caught.value)


def test_pairs_need_as_many_rows_and_names_must_be_known() -> None:
    with pytest.raises(InputError, match="as many rows: 3 and 1"):
        pairwise_cos_sim(A, P[:1])
    with pytest.raises(InputError, match="cosine, dot, euclidean, manhattan"):
        pick_similarity("cos_sim")
