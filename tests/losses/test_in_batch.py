from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer import losses as oracle
from torch import Tensor
from torch.nn import functional as F

from raybert.errors import InputError, SettingsError
from raybert.losses.in_batch import (
    GISTEmbedLoss,
    MegaBatchMarginLoss,
    MultipleNegativesRankingLoss,
)
from raybert.losses.loss import LossInputs

ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
SYMMETRIC = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}


@pytest.mark.parametrize(
    ("names", "arguments", "expected"),
    [
        ("ap", {}, 0.0947297),
        ("apn", {}, 0.6184037),
        ("ap", {"scale": 1.0, "similarity_fct": "dot"}, 0.8263318),
        ("ap", SYMMETRIC, 0.1062063),
        ("ap", {"directions": ALL}, 1.0459303),
    ],
)
def test_ranking_gives_the_specified_numbers(
    toy: SimpleNamespace, names: str, arguments: dict[str, Any], expected: float
) -> None:
    loss = MultipleNegativesRankingLoss(**arguments)
    value = loss(LossInputs.of(*(getattr(toy, name) for name in names)))
    # float32 rounds otherwise from CPU to CPU: by 7e-7 on one with AMX.
    assert value.item() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ranking_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(data, data.draw(st.integers(2, 5)))
    name = data.draw(st.sampled_from(["cosine", "dot"]))
    arguments: dict[str, Any] = {
        "scale": 20.0 if name == "cosine" else 1.0,
        "hardness_mode": data.draw(
            st.sampled_from([None, "in_batch_negatives", "hard_negatives", "all_negatives"])
        ),
        "hardness_strength": data.draw(st.sampled_from([0.5, 3.0])),
        **data.draw(
            st.sampled_from(
                [{}, SYMMETRIC, {"directions": ALL}, {"directions": ("query_to_doc", "doc_to_doc")}]
            )
        ),
    }
    from sentence_transformers import util

    function = util.cos_sim if name == "cosine" else util.dot_score
    theirs = oracle.MultipleNegativesRankingLoss(
        column_model(), similarity_fct=function, **arguments
    )
    ours = MultipleNegativesRankingLoss(similarity_fct=name, **arguments)
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors)),
        lambda *tensors: theirs.compute_loss_from_embeddings(list(tensors), torch.empty(0)),
        columns,
    )


def test_own_rows_make_up_the_whole(toy: SimpleNamespace) -> None:
    for loss in (
        MultipleNegativesRankingLoss(hardness_mode="all_negatives", hardness_strength=1.0),
        MultipleNegativesRankingLoss(directions=ALL),
        MegaBatchMarginLoss(),
        GISTEmbedLoss(temperature=0.2),
    ):
        inputs = LossInputs.of(toy.a, toy.p, guide=(toy.a, toy.p))
        parts = [loss(inputs.with_own(slice(row, row + 1))) for row in range(3)]
        torch.testing.assert_close(torch.stack(parts).mean(), loss(inputs))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"scale": 0.0}, "scale"),
        ({"directions": ("doc_to_query",)}, "query_to_doc"),
        ({"directions": ("query_to_doc", "sideways")}, "sideways"),
        (
            {"directions": ("query_to_doc", "doc_to_doc"), "partition_mode": "per_direction"},
            "joint",
        ),
        ({"hardness_mode": "very"}, "in_batch_negatives"),
        ({"hardness_strength": -1.0}, "hardness_strength"),
    ],
)
def test_ranking_refuses_settings_in_one_line(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named) as caught:
        MultipleNegativesRankingLoss(**arguments)
    assert "\n" not in str(caught.value)


def test_one_column_is_refused(toy: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="anchor, positive, negative"):
        MultipleNegativesRankingLoss()(LossInputs.of(toy.a))


def oracle_gist(
    bare: Callable[..., Any], model: Any, guides: list[Tensor], **arguments: Any
) -> Callable[..., Tensor]:
    """The reference loss, its guide giving the vectors at hand."""

    class Guide(torch.nn.Module):
        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"sentence_embedding": features["guide"]}

    loss = bare(
        oracle.GISTEmbedLoss,
        model=model,
        guide=Guide(),
        similarity_fct=torch.nn.CosineSimilarity(dim=-1),
        must_retokenize=False,
        gather_across_devices=False,
        cross_entropy_loss=torch.nn.CrossEntropyLoss(),
        **arguments,
    )
    return lambda *columns: loss(
        [
            {"sentence_embedding": column, "guide": guide}
            for column, guide in zip(columns, guides, strict=True)
        ],
        torch.empty(0),
    )


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_guided_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
    bare: Callable[..., Any],
) -> None:
    columns = draw_columns(
        data, data.draw(st.integers(2, 3)), widths=(2, 3, 8), coarse=False, zeros=False
    )
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    self_guided = data.draw(st.booleans())
    guides = [column.clone() for column in columns]
    if not self_guided:
        guides = [torch.randn(len(column), 5, generator=generator) for column in columns]
    arguments: dict[str, Any] = {
        "temperature": data.draw(st.sampled_from([0.01, 0.1])),
        "margin_strategy": data.draw(st.sampled_from(["absolute", "relative"])),
        "margin": data.draw(st.sampled_from([0.0, 0.05])),
        "contrast_anchors": data.draw(st.booleans()),
        "contrast_positives": data.draw(st.booleans()),
    }
    ours = GISTEmbedLoss(**arguments)
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors, guide=guides)),
        oracle_gist(bare, column_model(), guides, **arguments),
        columns,
    )


def test_guided_by_itself_masks_only_what_is_strictly_nearer(toy: SimpleNamespace) -> None:
    """With margin 0 a candidate as near as the own positive stays."""
    anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    positives = torch.tensor([[1.0, 0.2], [1.0, 0.2]])
    only_pairs = GISTEmbedLoss(1.0, contrast_anchors=False, contrast_positives=False)
    value = only_pairs(LossInputs.of(anchors, positives, guide=(anchors, positives)))
    assert value.item() == pytest.approx(0.6931472, abs=1e-6)

    inputs = LossInputs.of(toy.a, toy.p, guide=(toy.a, toy.p))
    cosines = F.normalize(toy.a) @ F.normalize(toy.p).T
    masked = cosines.masked_fill(cosines > cosines.diagonal()[:, None], -torch.inf)
    expected = F.cross_entropy(masked / 0.01, torch.arange(3))
    value = GISTEmbedLoss(contrast_anchors=False, contrast_positives=False)(inputs)
    torch.testing.assert_close(value, expected)


def test_guided_by_a_zero_row_equals_the_oracle(
    bare: Callable[..., Any], column_model: Any
) -> None:
    """Its gradient is a difference of sums of 1e9, so the value alone is compared."""
    columns = [torch.tensor([[1.0, 2], [3, 1], [0, 1]]), torch.tensor([[0.0, 0], [2, 1], [1, 1]])]
    arguments: dict[str, Any] = {
        "temperature": 0.1,
        "margin_strategy": "absolute",
        "margin": 0.0,
        "contrast_anchors": True,
        "contrast_positives": True,
    }
    expected = oracle_gist(bare, column_model(), columns, **arguments)(*columns)
    value = GISTEmbedLoss(**arguments)(LossInputs.of(*columns, guide=columns))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_guide_is_asked_for(toy: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="guide"):
        GISTEmbedLoss()(LossInputs.of(toy.a, toy.p))


def test_mega_batch_gives_the_specified_number(toy: SimpleNamespace) -> None:
    value = MegaBatchMarginLoss()(LossInputs.of(toy.a, toy.p))
    assert value.item() == pytest.approx(0.4245637, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_mega_batch_equals_the_oracle(
    data: st.DataObject,
    draw_columns: Callable[..., list[Tensor]],
    assert_same: Callable[..., None],
    column_model: Any,
) -> None:
    columns = draw_columns(data, 2)
    # No cosine of small whole numbers lies on these margins, where the gradient has a step.
    margins = {"positive_margin": 0.8123, "negative_margin": 0.3211}
    ours = MegaBatchMarginLoss(**margins)
    theirs = oracle.MegaBatchMarginLoss(column_model(), use_mini_batched_version=False, **margins)
    assert_same(
        lambda *tensors: ours(LossInputs.of(*tensors)),
        lambda *tensors: theirs.calculate_loss([[tensor] for tensor in tensors]),
        columns,
    )
