"""One rank of the gathering tests; started by `test_gather.py`, with its cases in a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raybert.errors import InputError
from raybert.losses.loss import Loss, LossInputs
from raybert.training.cached_step import EMBEDDING, cached_step
from raybert.training.gather import GatheredLoss, gather_rows
from raybert.training.mini_batches import MiniBatches, TensorRows


def share(tensor: Tensor, rank: int, world: int) -> Tensor:
    return tensor.tensor_split(world)[rank]


def gathered(case: Mapping[str, Any], rank: int, world: int) -> dict[str, Any]:
    """Value and local gradients of one loss on this rank's rows."""
    columns = [share(each, rank, world).clone().requires_grad_() for each in case["columns"]]
    details = {
        name: [share(each, rank, world) for each in tensors]
        for name, tensors in case["details"].items()
    }
    labels = case["labels"]
    if labels is not None:
        labels = share(labels, rank, world)
        if case["ragged"]:
            labels = labels[:, : int((~labels.isnan()).sum(1).max())]
            taken = [(~part.isnan()).sum() for part in case["labels"].tensor_split(world)]
            start = int(sum(taken[:rank]))
            whole = case["columns"][0][start : start + int(taken[rank])]
            columns = [whole.clone().requires_grad_()]
    value = GatheredLoss(case["loss"])(LossInputs.of(*columns, **details), labels)
    value.backward()
    return {"value": value.detach(), "gradients": [column.grad for column in columns]}


class Towers(nn.Module):
    """Two layers, one a column, so that each mini-batch leaves parameters unused."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(4, 6), nn.Linear(4, 6)])
        self.double()

    def forward(self, number: int, x: Tensor) -> Tensor:
        output: Tensor = self.layers[number](x)
        return output


def cached(loss: Loss, columns: list[Tensor], rank: int, world: int) -> dict[str, Any]:
    """Parameter gradients of a cached, gathered step under DDP."""
    model = DistributedDataParallel(Towers(), find_unused_parameters=True)
    rows = [TensorRows({"x": share(each, rank, world)}) for each in columns]

    def embed(number: int, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {EMBEDDING: model(number, features["x"])}

    limits = MiniBatches(rows=2, loss_rows=3)
    step = cached_step(embed, rows, GatheredLoss(loss), limits=limits, no_sync=model.no_sync)
    step.loss.backward()  # type: ignore[no-untyped-call]
    return {"value": step.loss.detach(), "gradients": [p.grad for p in model.parameters()]}


def refusal(rank: int) -> str:
    """What unequal rows are answered with."""
    from raybert.losses import MultipleNegativesRankingLoss

    try:
        GatheredLoss(MultipleNegativesRankingLoss())(
            LossInputs.of(torch.ones(2 + rank, 3), torch.ones(2 + rank, 3))
        )
    except InputError as error:
        return str(error)
    return ""


def main(rank: int, world: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    cases = torch.load(folder / "cases.pt", weights_only=False)
    results: dict[str, Any] = {
        name: gathered(case, rank, world) for name, case in cases["gathered"].items()
    }
    results["cached"] = cached(cases["cached"]["loss"], cases["cached"]["columns"], rank, world)
    results["refusal"] = refusal(rank)
    ragged = torch.full((rank + 1, 2), float(rank), requires_grad=True)
    whole = gather_rows(ragged)
    (whole * torch.arange(len(whole))[:, None]).sum().backward()  # type: ignore[no-untyped-call]
    results["uneven"] = {"rows": whole.detach(), "gradient": ragged.grad}
    results["flags"] = gather_rows(torch.tensor([rank == 0]))
    torch.save(results, folder / f"result{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
