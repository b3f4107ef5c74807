from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sparse_encoder import losses as oracle
from torch import Tensor

from raybert.errors import InputError
from raybert.losses.csr import (
    BACKBONE,
    DECODED_4K,
    DECODED_AUX,
    DECODED_K,
    DECODED_K_PRE_BIAS,
    CSRLoss,
    normalized_mse,
)
from raybert.losses.loss import LossInputs

NAMES = (BACKBONE, DECODED_K, DECODED_4K, DECODED_K_PRE_BIAS, DECODED_AUX)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = data.draw(st.integers(2, 3))
    drawn = draw_columns(data, columns * 6)
    with_aux = data.draw(st.booleans())
    ours, theirs = CSRLoss(beta=0.3, gamma=2.0), oracle.CSRLoss(column_model(), None, 0.3, 2.0)

    def our_loss(*tensors: Tensor) -> Tensor:
        details = {
            name: [tensors[column * 6 + 1 + place] for column in range(columns)]
            for place, name in enumerate(NAMES)
            if with_aux or name != DECODED_AUX
        }
        value: Tensor = ours(LossInputs.of(*tensors[::6], **details))
        return value

    def oracle_loss(*tensors: Tensor) -> Any:
        features: list[dict[str, Tensor | None]] = []
        for start in range(0, len(tensors), 6):
            named = dict(zip(NAMES, tensors[start + 1 : start + 6], strict=True))
            column = {"sentence_embedding": tensors[start], **named}
            features.append({**column, DECODED_AUX: named[DECODED_AUX] if with_aux else None})
        return theirs(features, None)

    assert_same(our_loss, oracle_loss, drawn)


def test_equal_targets_are_measured_plainly() -> None:
    target = torch.ones(3, 4)
    assert normalized_mse(torch.zeros(3, 4), target).item() == 1.0


def test_reconstructions_are_asked_for() -> None:
    with pytest.raises(InputError, match=BACKBONE):
        CSRLoss()(LossInputs.of(torch.ones(2, 3), torch.ones(2, 3)))
