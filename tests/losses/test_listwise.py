from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.cross_encoder import losses as oracle
from torch import Tensor

from raybert.errors import InputError
from raybert.losses import listwise
from raybert.losses.listwise import pad_labels, place_weights
from raybert.losses.loss import LossInputs

LOGITS = torch.tensor([2.0, 0.5, -1.0, 0.1, 0.4])
LABELS = [[1.0, 0.0, 2.0], [0.0, 1.0]]
CASES: list[tuple[str, dict[str, Any], float]] = [
    ("ListNetLoss", {}, 1.5035590),
    ("ListMLELoss", {}, 0.6485399),
    ("ListMLELoss", {"respect_input_order": False}, 1.9985399),
    ("PListMLELoss", {}, 0.5428460),
    ("ADRMSELoss", {}, 0.8606017),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), CASES)
def test_specified_numbers(name: str, arguments: dict[str, Any], expected: float) -> None:
    loss = getattr(listwise, name)(**arguments)
    value = loss(LossInputs.of(LOGITS), pad_labels(LABELS))
    assert value.item() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_equal_the_oracle(
    data: st.DataObject, assert_same: Callable[..., None], pair_model: Any
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    logits = 3 * torch.randn(sum(lengths), generator=generator)
    if data.draw(st.booleans()):
        logits = logits.round()
    labels = [
        torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
        for n in lengths
    ]
    numbers = iter(range(sum(lengths)))
    texts = [[str(next(numbers)) for _ in range(length)] for length in lengths]
    queries = ["0"] * len(lengths)
    name, arguments, _ = data.draw(st.sampled_from(CASES))
    if "respect_input_order" in arguments:
        distinct = [torch.randperm(length, generator=generator) for length in lengths]
        labels = distinct
    ours = getattr(listwise, name)(**arguments)
    kind = getattr(oracle, name)
    assert_same(
        lambda tensor: ours(LossInputs.of(tensor), pad_labels(labels)),
        lambda tensor: kind(pair_model(tensor), **arguments)([queries, texts], labels),
        [logits],
        floor=2e-6,  # lists are compared in float32
    )


def test_long_lists_have_finite_weights() -> None:
    weights = place_weights(torch.ones(1, 2000, dtype=torch.bool))
    assert weights.isfinite().all()
    assert weights[0, 0] > 0
    assert weights[0, -1] == 0
    reference = oracle.PListMLELambdaWeight()(torch.ones(1, 300, dtype=torch.bool))
    torch.testing.assert_close(place_weights(torch.ones(1, 300, dtype=torch.bool)), reference)


def test_logits_may_be_a_matrix_of_full_lists() -> None:
    logits, labels = torch.randn(2, 3), torch.tensor([[1.0, 0, 2], [0, 1, 1]])
    loss = listwise.ListNetLoss()
    assert loss(LossInputs.of(logits), labels) == loss(LossInputs.of(logits.flatten()), labels)


def test_labels_must_match_the_logits() -> None:
    loss: Callable[..., Tensor] = listwise.ListNetLoss()
    with pytest.raises(InputError, match="5 labels for 4 logits"):
        loss(LossInputs.of(LOGITS[:4]), pad_labels(LABELS))
    with pytest.raises(InputError, match="queries, documents"):
        loss(LossInputs.of(LOGITS), torch.zeros(5))
