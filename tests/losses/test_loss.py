from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raybert.errors import InputError
from raybert.losses.loss import CompoundLoss, LabelKind, Loss, LossInputs, Terms, total


class Spread(Loss):
    """A user's own loss."""

    columns = ("a", "b*")
    labels = LabelKind.SCORE

    def forward(self, inputs: LossInputs, labels: Tensor | None = None) -> Tensor:
        return torch.cat(self.take(inputs)).var()


class Twofold(CompoundLoss):
    columns = ("a",)

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        (column,) = self.take(inputs)
        return {"mean": column.mean(), "square": column.square().mean()}


def test_terms_sum_up_to_the_loss() -> None:
    inputs = LossInputs.of(torch.tensor([[1.0, 3.0]]))
    loss = Twofold()
    assert loss(inputs).item() == 7.0
    assert total(loss.terms(inputs)).item() == 7.0
    assert Spread().terms(inputs)["loss"].item() == 2.0


def test_columns_are_counted() -> None:
    assert Spread().column_counts == (1, None)
    assert Twofold().column_counts == (1, 1)
    with pytest.raises(InputError, match="Twofold needs the columns a; 2 given"):
        Twofold()(LossInputs.of(torch.zeros(1, 2), torch.zeros(1, 2)))
    assert Spread().wants_label(1)
    assert not Twofold().wants_label(1)


def test_inputs_change_all_their_tensors_and_keep_their_own_rows() -> None:
    column, guide = torch.ones(3, 2), torch.ones(3, 5)
    inputs = LossInputs.of(column, guide=[guide]).with_own(slice(1, 3))
    doubled = inputs.map(lambda tensor: tensor * 2)
    assert doubled.columns[0].sum().item() == 12
    assert doubled.detail("guide")[0].sum().item() == 30
    assert doubled.own_rows.tolist() == [1, 2]
    assert doubled.rows == 3
    with pytest.raises(InputError, match="'layers'"):
        doubled.detail("layers")
