"""Weights, gradients and optimizer state split over the processes (FSDP2).

Zhao et al., PyTorch FSDP, arXiv:2304.11277. Each process holds one part of every parameter and
gathers a layer when it is computed. Checkpoints hold whole tensors, so a training may go on split
or not, and on another number of processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from raybert.training.gather import world_size


def split(model: nn.Module, device: torch.device) -> None:
    """Split a model in place: layer by layer, and what is outside of layers together.

    A process alone has nothing to share out.
    """
    if world_size() == 1:
        return
    mesh = init_device_mesh(device.type, (world_size(),))
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_split(model: nn.Module) -> bool:
    """Tell whether a model's weights are split."""
    return any(isinstance(each, DTensor) for each in model.parameters())


def whole(value: Any) -> Any:
    """Return a state with whole tensors; all processes must ask, in the same order."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {name: whole(each) for name, each in value.items()}
    return [whole(each) for each in value] if isinstance(value, list) else value


def take_weights(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load whole tensors into a model, split or not."""
    like = model.state_dict()
    model.load_state_dict({name: _part(each, like[name]) for name, each in state.items()})


def take_moments(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load an optimizer's whole state, its tensors split as its parameters are."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    parts = {
        number: {
            name: _part(each, parameters[number]) if _fits(each, parameters[number]) else each
            for name, each in moments.items()
        }
        for number, moments in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": parts})


def number(value: Tensor) -> float:
    """Return a number that may be one of split tensors."""
    return float(whole(value))


def _layers(module: nn.Module) -> Iterable[nn.Module]:
    """Yield the outermost layers that stand in lists and hold weights."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (each for each in child if next(each.parameters(), None) is not None)
        else:
            yield from _layers(child)


def _fits(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _part(value: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a tensor, as another one is split."""
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
