"""What the processes of a training do together; alone, each of these does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from raybert.errors import RaybertError
from raybert.training.gather import world_size

BUCKET_NUMBERS = 8 << 20
"""Numbers that travel together: 32 MiB in float32."""
T = TypeVar("T")


def rank() -> int:
    """Return this process's number, 0 where it is alone."""
    return dist.get_rank() if world_size() > 1 else 0


def same_weights(module: nn.Module) -> None:
    """Give every process rank 0's parameters and buffers."""
    if world_size() > 1:
        for tensor in module.state_dict(keep_vars=True).values():
            if isinstance(tensor, Tensor):
                dist.broadcast(tensor.detach(), src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over the processes.

    It is done once a step, behind the last backward pass, so that caching, accumulation, routes
    and parameters that a batch does not use need no exceptions, as hooks on them would. Split
    gradients are means already.
    """
    if world_size() == 1:
        return
    with torch.no_grad():
        found = [each.grad for each in parameters if each.grad is not None]
        for bucket in _buckets([each for each in found if not isinstance(each, DTensor)]):
            alone = len(bucket) == 1 and bucket[0].is_contiguous()
            flat = bucket[0] if alone else torch.cat([each.reshape(-1) for each in bucket])
            dist.all_reduce(flat)
            flat /= world_size()
            if not alone:
                parts = torch.split(flat, [gradient.numel() for gradient in bucket])
                for gradient, part in zip(bucket, parts, strict=True):
                    gradient.copy_(part.view_as(gradient))


def mean_over_ranks(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the mean of each number over the processes; not finite on one, not finite on all."""
    together = torch.stack([value.detach().double().reshape(()) for value in values.values()])
    if world_size() > 1:
        dist.all_reduce(together)
        together /= world_size()
    return dict(zip(values, together.tolist(), strict=True))


def gathered(value: T) -> list[T]:
    """Return every process's value, in the order of ranks."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def on_first(work: Callable[[], T]) -> T:
    """Run `work` on rank 0 while the others wait; its value, or its fault, is every rank's.

    Raises:
        RaybertError: what `work` raised, on every rank alike.
    """
    if world_size() == 1:
        return work()
    told: list[T | RaybertError | None] = [None]
    if dist.get_rank() == 0:
        try:
            told = [work()]
        except RaybertError as error:
            told = [error]
    dist.broadcast_object_list(told, src=0)
    if isinstance(told[0], RaybertError):
        raise told[0]
    return told[0]  # type: ignore[return-value]


def _buckets(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Share tensors out into buckets of one number format."""
    buckets: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        bucket = buckets.setdefault(tensor.dtype, [])
        bucket.append(tensor)
        if sum(each.numel() for each in bucket) >= BUCKET_NUMBERS:
            yield buckets.pop(tensor.dtype)
    yield from buckets.values()
