from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.cross_encoder import losses as oracle
from torch import Tensor, nn

from raybert.errors import InputError, SettingsError
from raybert.losses.loss import LossInputs
from raybert.losses.reranking import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    MarginMSELoss,
    MSELoss,
    MultipleNegativesRankingLoss,
    in_batch_negatives,
)


def test_binary_cross_entropy_gives_the_specified_number() -> None:
    logits, labels = torch.tensor([2.0, -1.0]), torch.tensor([1, 0])
    value = BinaryCrossEntropyLoss()(LossInputs.of(logits), labels)
    assert value.item() == pytest.approx(0.2200949, abs=1e-6)


def test_ranking_gives_the_specified_number() -> None:
    """Three queries whose texts have the logits 2, -1, 0.5 whoever asks."""
    texts = torch.tensor([2.0, -1.0, 0.5])
    chosen = in_batch_negatives(3, 1, None)
    columns = [texts, *texts[chosen].unbind(1)]
    value = MultipleNegativesRankingLoss(None)(LossInputs.of(*columns))
    assert value.item() == pytest.approx(2.9754923, abs=1e-6)


def rows_of(data: st.DataObject) -> tuple[int, torch.Generator]:
    rows = data.draw(st.integers(1, 6), "rows")
    return rows, torch.Generator().manual_seed(data.draw(st.integers(0, 999), "seed"))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_pointwise_equal_the_oracle(
    data: st.DataObject,
    assert_same: Callable[..., None],
    pair_model: Any,
    bare: Callable[..., Any],
) -> None:
    rows, generator = rows_of(data)
    logits = 4 * torch.randn(rows, generator=generator)
    labels = torch.rand(rows, generator=generator).round(decimals=1)
    texts = [[str(row) for row in range(rows)]] * 2
    ours: Any
    inner: dict[str, nn.Module]
    if data.draw(st.booleans()):
        weight = data.draw(st.sampled_from([None, 3.0]))
        ours, kind = BinaryCrossEntropyLoss(pos_weight=weight), oracle.BinaryCrossEntropyLoss
        tensor = None if weight is None else torch.tensor(weight)
        inner = {"bce_with_logits_loss": nn.BCEWithLogitsLoss(pos_weight=tensor)}
    else:
        ours, kind, inner = MSELoss(), oracle.MSELoss, {"loss_fct": nn.MSELoss()}
    activation = nn.Identity()
    assert_same(
        lambda tensor: ours(LossInputs.of(tensor), labels),
        lambda tensor: bare(kind, model=pair_model(tensor), activation_fn=activation, **inner)(
            texts, labels
        ),
        [logits],
        floor=2e-6,
    )


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_margins_equal_the_oracle(
    data: st.DataObject,
    assert_same: Callable[..., None],
    pair_model: Any,
    bare: Callable[..., Any],
) -> None:
    rows, generator = rows_of(data)
    columns = data.draw(st.integers(2, 4))
    logits = torch.randn(columns, rows, generator=generator)
    labels = torch.randn(rows, columns, generator=generator)
    labels = labels if data.draw(st.booleans()) else labels[:, 1:]
    numbers = torch.arange(columns * rows).reshape(columns, rows).tolist()
    texts = [[str(number) for number in column] for column in [numbers[0], *numbers]]

    def theirs(tensor: Tensor) -> Any:
        model = pair_model(tensor.flatten())
        attributes = {"activation_fn": nn.Sigmoid(), "loss_fct": nn.MSELoss()}
        return bare(oracle.MarginMSELoss, model=model, **attributes)(texts, labels)

    ours = MarginMSELoss(torch.sigmoid)
    assert_same(lambda tensor: ours(LossInputs.of(*tensor), labels), theirs, [logits], floor=2e-6)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_ranking_equals_the_oracle(
    data: st.DataObject,
    assert_same: Callable[..., None],
    pair_model: Any,
    bare: Callable[..., Any],
) -> None:
    """With the same chance, the same texts are chosen."""
    rows, generator = rows_of(data)
    columns = data.draw(st.integers(1, 3))
    count = data.draw(st.sampled_from([None, 1, 4]))
    logits = torch.randn(rows, rows * columns, generator=generator)
    numbers = torch.arange(rows * columns).reshape(columns, rows).tolist()
    queries = [str(row) for row in range(rows)]
    texts = [queries, *[[str(number) for number in column] for column in numbers]]

    def theirs(tensor: Tensor) -> Any:
        torch.manual_seed(7)
        return bare(
            oracle.MultipleNegativesRankingLoss,
            model=pair_model(tensor),
            num_negatives=count,
            scale=10.0,
            activation_fn=nn.Sigmoid(),
            cross_entropy_loss=nn.CrossEntropyLoss(),
        )(texts, None)

    def ours(tensor: Tensor) -> Any:
        torch.manual_seed(7)
        chosen = in_batch_negatives(rows, columns, count)
        own = torch.tensor(numbers)
        scored = [tensor[torch.arange(rows), own[0]], *tensor.gather(1, chosen).unbind(1)]
        scored += [tensor[torch.arange(rows), column] for column in own[1:]]
        return MultipleNegativesRankingLoss(count)(LossInputs.of(*scored))

    assert_same(ours, theirs, [logits], floor=2e-6)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 7), columns=st.integers(1, 3), count=st.sampled_from([None, 1, 2, 5]))
def test_negatives_are_never_of_the_own_row(rows: int, columns: int, count: int | None) -> None:
    chosen = in_batch_negatives(rows, columns, count)
    others = (rows - 1) * columns
    assert chosen.shape == (rows, others if count is None else min(count, others))
    assert not (chosen % rows == torch.arange(rows)[:, None]).any()
    assert all(len(set(row)) == len(row) for row in chosen.tolist())


def test_classes_equal_plain_cross_entropy() -> None:
    logits, classes = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    expected = nn.functional.cross_entropy(logits, classes)
    torch.testing.assert_close(
        CrossEntropyLoss()(LossInputs.of(logits), classes[:, None]), expected
    )
    soft = torch.softmax(torch.randn(4, 3), dim=1)
    expected = nn.functional.cross_entropy(logits, soft)
    torch.testing.assert_close(CrossEntropyLoss()(LossInputs.of(logits), soft), expected)


def test_several_labels_a_row() -> None:
    logits, labels = torch.randn(4, 3), torch.randint(0, 2, (4, 3))
    expected = nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    value = BinaryCrossEntropyLoss()(LossInputs.of(logits), labels)
    torch.testing.assert_close(value, expected)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="1 label"):
        MSELoss()(LossInputs.of(torch.zeros(4, 3)), torch.zeros(4))
    with pytest.raises(InputError, match="needs 4 labels"):
        BinaryCrossEntropyLoss()(LossInputs.of(torch.zeros(4)), torch.zeros(3))
    with pytest.raises(InputError, match="query, positive, negative"):
        MarginMSELoss()(LossInputs.of(torch.zeros(4)), torch.zeros(4))
    with pytest.raises(SettingsError, match="num_negatives"):
        MultipleNegativesRankingLoss(0)
