"""Two gloo processes against one process on the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raybert.losses import (
    AdaptiveLayerLoss,
    ADRMSELoss,
    BatchHardTripletLoss,
    ContrastiveTensionLoss,
    ContrastiveTensionLossInBatchNegatives,
    CoSENTLoss,
    CosineSimilarityLoss,
    GISTEmbedLoss,
    GlobalOrthogonalRegularizationLoss,
    LambdaLoss,
    LossInputs,
    MatryoshkaLoss,
    MegaBatchMarginLoss,
    MultipleNegativesRankingLoss,
    OnlineContrastiveLoss,
    SparseMultipleNegativesRankingLoss,
    SpladeLoss,
    SumLoss,
    pad_labels,
)
from raybert.training.gather import GatheredLoss, gather_rows, world_size

WORLD = 2
DIRECTIONS = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(
    loss: Any, columns: int = 3, labels: Tensor | None = None, **details: Any
) -> dict[str, Any]:
    drawn = [random(6, 4, seed=seed) for seed in range(columns)]
    return {"loss": loss, "columns": drawn, "labels": labels, "details": details, "ragged": False}


def specified() -> dict[str, Any]:
    anchors = torch.tensor([[1.0, 0], [0, 1], [1, 1], [-1, 0.5]])
    positives = torch.tensor([[1.0, 0.2], [0.1, 1], [1, 0.5], [-1, 1]])
    return {**case(MultipleNegativesRankingLoss()), "columns": [anchors, positives]}


def listed(loss: Any) -> dict[str, Any]:
    labels = pad_labels([[1.0, 0, 2], [0, 1], [3, 1, 0, 0, 1], [0, 1]])
    return {**case(loss, 0, labels), "columns": [random(12).float()], "ragged": True}


RANKING = MultipleNegativesRankingLoss
CASES: dict[str, dict[str, Any]] = {
    "specified": specified(),
    "ranking": case(RANKING()),
    "all_directions": case(RANKING(directions=DIRECTIONS)),
    "hardness": case(RANKING(hardness_mode="hard_negatives", hardness_strength=2.0)),
    "guided": case(GISTEmbedLoss(0.2), guide=[random(6, 3, seed=9 + n) for n in range(3)]),
    "mega_batch": case(MegaBatchMarginLoss(), 2),
    "scores": case(CoSENTLoss(), 2, torch.tensor([0.1, 0.5, 0.5, 0.9, 0.2, 1.0])),
    "triplets": case(BatchHardTripletLoss(), 1, torch.tensor([0, 1, 0, 1, 2, 2])),
    "online": case(OnlineContrastiveLoss(), 2, torch.tensor([0, 1, 0, 1, 1, 0])),
    "tension": case(ContrastiveTensionLoss(), 2, torch.tensor([0, 1, 0, 1, 1, 0])),
    "tension_in_batch": case(ContrastiveTensionLossInBatchNegatives(), 2),
    "matryoshka": case(MatryoshkaLoss(RANKING(), [4, 2], n_dims_per_step=1)),
    "layers": case(
        AdaptiveLayerLoss(RANKING()), 2, layers=[random(6, 3, 4, seed=8 + n) for n in range(2)]
    ),
    "splade": case(SpladeLoss(SparseMultipleNegativesRankingLoss(), 0.1, 0.2)),
    "sum": case(SumLoss(RANKING(), [GlobalOrthogonalRegularizationLoss()])),
    "not_in_batch": case(CosineSimilarityLoss(), 2, torch.rand(6)),
    "lambda": listed(LambdaLoss()),
    "ranks": listed(ADRMSELoss()),
}
CACHED: dict[str, Any] = {
    "loss": RANKING(),
    "columns": [random(10, 4, seed=1), random(10, 4, seed=2)],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes computed on its half of every case."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.save({"gathered": CASES, "cached": CACHED}, folder / "cases.pt")
    script = Path(__file__).with_name("ranks.py")
    paths = [path for path in sys.path if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(WORLD), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD)
    ]
    errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * WORLD, errors[0] + errors[1]
    return [torch.load(folder / f"result{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("name", CASES)
def test_gathered_equals_one_process_on_the_whole_batch(
    results: list[dict[str, Any]], name: str
) -> None:
    known = CASES[name]
    leaves = [column.clone().requires_grad_() for column in known["columns"]]
    loss = known["loss"]
    value = loss(LossInputs.of(*leaves, **known["details"]), known["labels"])
    value.backward()
    values = torch.stack([result[name]["value"] for result in results])
    torch.testing.assert_close(values.mean(), value.detach(), rtol=1e-6, atol=1e-6)
    for number, leaf in enumerate(leaves):
        local = torch.cat([result[name]["gradients"][number] for result in results])
        assert leaf.grad is not None
        torch.testing.assert_close(local / WORLD, leaf.grad, rtol=1e-6, atol=1e-6)


def test_specified_numbers(results: list[dict[str, Any]]) -> None:
    values = [result["specified"]["value"].item() for result in results]
    assert values == pytest.approx([0.083713, 0.059961], abs=1e-6)
    assert sum(values) / WORLD == pytest.approx(0.071837, abs=1e-6)


def test_cached_and_gathered_under_ddp_equals_one_process(results: list[dict[str, Any]]) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(4, 6), nn.Linear(4, 6)]).double()
    pairs = zip(layers, CACHED["columns"], strict=True)
    value = CACHED["loss"](LossInputs.of(*(layer(column) for layer, column in pairs)))
    value.backward()
    values = torch.stack([result["cached"]["value"] for result in results])
    torch.testing.assert_close(values.mean(), value.detach(), rtol=1e-9, atol=1e-9)
    for result in results:
        for found, parameter in zip(
            result["cached"]["gradients"], layers.parameters(), strict=True
        ):
            torch.testing.assert_close(found, parameter.grad, rtol=1e-7, atol=1e-9)


def test_unequal_rows_are_refused_on_every_rank(results: list[dict[str, Any]]) -> None:
    for result in results:
        assert "2, 3 rows" in result["refusal"]
        assert "drop the last partial batch" in result["refusal"]


def test_rows_of_unequal_ranks_keep_their_order_and_gradient(results: list[dict[str, Any]]) -> None:
    for result in results:
        assert result["uneven"]["rows"][:, 0].tolist() == [0.0, 1.0, 1.0]
        assert result["flags"].tolist() == [True, False]
    assert results[0]["uneven"]["gradient"].tolist() == [[0.0, 0.0]]
    assert results[1]["uneven"]["gradient"].tolist() == [[2.0, 2.0], [4.0, 4.0]]


def test_one_process_gathers_nothing() -> None:
    rows, loss = random(3, 2), CoSENTLoss()
    assert world_size() == 1
    assert gather_rows(rows) is rows
    inputs, labels = LossInputs.of(rows, rows.flip(0)), torch.tensor([0.1, 0.2, 0.3])
    assert GatheredLoss(loss)(inputs, labels) == loss(inputs, labels)
