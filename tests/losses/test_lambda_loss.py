from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.cross_encoder.losses import lambda_loss as oracle
from sentence_transformers.cross_encoder.losses.rank_net import RankNetLoss as OracleRankNet

from raybert.errors import SettingsError
from raybert.losses.lambda_loss import WEIGHTINGS, LambdaLoss, RankNetLoss
from raybert.losses.listwise import pad_labels
from raybert.losses.loss import LossInputs

LOGITS = torch.tensor([2.0, 0.5, -1.0, 0.1, 0.4])
LABELS = [[1.0, 0.0, 2.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("NDCGLoss2PP", 3.9264071),
        (None, 1.9857864),
        ("LambdaRank", 0.4503884),
        ("NDCGLoss1", 0.4168184),
        ("NDCGLoss2", 0.3476019),
    ],
)
def test_specified_numbers(weighting: str | None, expected: float) -> None:
    value = LambdaLoss(weighting)(LossInputs.of(LOGITS), pad_labels(LABELS))
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_rank_net_gives_the_specified_number() -> None:
    value = RankNetLoss()(LossInputs.of(LOGITS), pad_labels(LABELS))
    assert value.item() == pytest.approx(1.9857864, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_equals_the_oracle(
    data: st.DataObject, assert_same: Callable[..., None], pair_model: Any
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    logits = 3 * torch.randn(sum(lengths), generator=generator)
    labels = [
        torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
        for n in lengths
    ]
    numbers = iter(range(sum(lengths)))
    texts = [[str(next(numbers)) for _ in range(length)] for length in lengths]
    arguments: dict[str, Any] = {
        "k": data.draw(st.sampled_from([None, 1, 3])),
        "sigma": data.draw(st.sampled_from([1.0, 2.5])),
        "reduction_log": data.draw(st.sampled_from(["binary", "natural"])),
    }
    name = data.draw(st.sampled_from([*WEIGHTINGS, "RankNet"]))
    if name == "RankNet":
        ours: Any = RankNetLoss(**arguments)
        make: Callable[..., Any] = OracleRankNet
    else:
        ours = LambdaLoss(name, **arguments)
        arguments["weighting_scheme"] = getattr(oracle, f"{name}Scheme")()
        make = oracle.LambdaLoss
    assert_same(
        lambda tensor: ours(LossInputs.of(tensor), pad_labels(labels)),
        lambda tensor: make(pair_model(tensor), **arguments)([["0"] * len(texts), texts], labels),
        [logits],
        floor=2e-6,  # lists are compared in float32
    )


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="LambdaRank"):
        LambdaLoss("NDCGLoss3")
    with pytest.raises(SettingsError, match="k 0"):
        LambdaLoss(k=0)
