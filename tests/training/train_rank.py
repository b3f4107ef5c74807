"""One rank of a training on several processes; started by `test_ranks.py`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from raybert.errors import InputError
from raybert.training import Job, TrainingSettings, make_training, train
from raybert.training.ranks import average_gradients, gathered, mean_over_ranks, on_first
from raybert.training.sharded import sharded
from raybert.training.state import Training


def keep(curve: list[float], values: Mapping[str, float], step: int) -> None:
    curve.append(values["loss"])


def fail() -> None:
    raise InputError("only rank 0 saw this")


def trained(job: Job) -> dict[str, Any]:
    training = make_training(job)
    curve: list[float] = []
    training.log = partial(keep, curve)
    train(training)
    return {"curve": curve, "weights": training.encoder.model.state_dict()}


def break_off(job: Job, step: int) -> str:
    """Train until a step, then stop as if killed; what kind of tensor the weights were."""
    training = make_training(job)

    def stop(values: Mapping[str, float], at: int) -> None:
        if at == step:
            raise InterruptedError

    training.log = stop
    with contextlib.suppress(InterruptedError):
        train(training)
    return type(next(training.encoder.model.parameters()).data).__name__


def shared_out(training: Training) -> dict[str, Any]:
    """What a cross-encoder says of some pairs, shared out and not, and a fault of one rank."""
    encoder: Any = training.encoder
    pairs = [(f"question {number}", "an answer " * number) for number in range(7)]
    said: dict[str, Any] = {
        "whole": encoder.predict(pairs),
        "parts": sharded(encoder).predict(pairs),
    }
    try:
        sharded(encoder).predict([*pairs, ("no pair",)])
    except InputError as error:
        said["fault"] = str(error)
    return said


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    found: dict[str, Any] = {}
    for name, (family, settings) in json.loads((folder / "jobs.json").read_text()).items():
        found[name] = trained(Job(TrainingSettings(**settings), family))
    if world > 1:
        family, settings = json.loads((folder / "jobs.json").read_text())["split"]
        settings["out"] += "-resumed"
        found["split_weights"] = break_off(Job(TrainingSettings(**settings), family), step=5)
        settings["scale"]["split_weights"] = False
        found["resumed"] = trained(Job(TrainingSettings(**settings), family))
        weight = torch.nn.Parameter(torch.zeros(2))
        weight.grad = torch.full((2,), float(rank))
        average_gradients([weight, torch.nn.Parameter(torch.zeros(1))])
        found["mean"] = weight.grad
        found["gathered"] = gathered(rank)
        found["not_finite"] = mean_over_ranks({"a": torch.tensor([1.0, torch.nan][rank])})["a"]
        try:
            on_first(fail)
        except InputError as error:
            found["fault"] = str(error)
        pairs = json.loads((folder / "jobs.json").read_text())["pairs"]
        found["sharded"] = shared_out(make_training(Job(TrainingSettings(**pairs[1]), pairs[0])))
    torch.save(found, folder / f"world{world}-rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
