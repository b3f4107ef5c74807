from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer import losses as oracle
from sentence_transformers.util import cos_sim
from torch import Tensor, nn

from raybert.errors import InputError
from raybert.losses.loss import LossInputs
from raybert.losses.unsupervised import (
    ContrastiveTensionLoss,
    ContrastiveTensionLossInBatchNegatives,
    DenoisingAutoEncoderLoss,
)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_tension_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(data, 2)
    rows = len(columns[0])
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)))
    ours, theirs = ContrastiveTensionLoss(), oracle.ContrastiveTensionLoss(column_model())
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors), labels),
        lambda *tensors: theirs([{"sentence_embedding": each} for each in tensors], labels),
        columns,
    )


class Tower(nn.Module):
    """One of two copies of a model, whose embeddings are features already."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features[self.name]}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_tension_in_batch_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    bare: Callable[..., Any],
) -> None:
    columns = draw_columns(data, 2)
    ours = ContrastiveTensionLossInBatchNegatives(scale=10.0)
    theirs = bare(
        oracle.ContrastiveTensionLossInBatchNegatives,
        model1=Tower("one"),
        model2=Tower("two"),
        similarity_fct=cos_sim,
        cross_entropy_loss=nn.CrossEntropyLoss(),
        logit_scale=nn.Parameter(torch.tensor(10.0).log()),
    )
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors)),
        lambda one, two: theirs([{"one": one, "two": two}], None),
        columns,
    )
    torch.testing.assert_close(ours.logit_scale.grad, theirs.logit_scale.grad, rtol=1e-5, atol=1e-5)


def test_denoising_equals_the_oracle(
    bare: Callable[..., Any], assert_same: Callable[..., None]
) -> None:
    ids = torch.tensor([[2, 5, 6, 3], [2, 4, 3, 0]])
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))

    def theirs(tensor: Tensor) -> Tensor:
        class Decoder(nn.Module):
            def forward(self, **_: Any) -> tuple[Tensor]:
                return (tensor,)

        loss = bare(
            oracle.DenoisingAutoEncoderLoss,
            encoder=Tower("embedding"),
            decoder=Decoder(),
            need_retokenization=False,
            tokenizer_decoder=SimpleNamespace(pad_token_id=0),
        )
        source = {"embedding": torch.zeros(2, 4), "attention_mask": torch.ones(2, 3)}
        value: Tensor = loss([source, {"input_ids": ids}], None)
        return value

    ours = DenoisingAutoEncoderLoss(pad_token_id=0)
    assert_same(lambda tensor: ours(LossInputs.of(tensor), ids[:, 1:]), theirs, [logits])


def test_targets_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match=r"target ids \(2, 3\)"):
        DenoisingAutoEncoderLoss()(LossInputs.of(torch.zeros(2, 3, 7)), torch.zeros(2, 4))


def test_tension_needs_labels(toy: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="needs 3 labels"):
        ContrastiveTensionLoss()(LossInputs.of(toy.a, toy.p))
