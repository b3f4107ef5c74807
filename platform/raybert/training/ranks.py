"""What the processes of a training do together; alone, each of these does nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from raybert.errors import RaybertError
from raybert.training.gather import world_size

BUCKET_NUMBERS = 2 << 20
"""Numbers that travel together: 8 MiB in float32."""
UNDER_WAY = 2
"""Buckets that travel while the next is packed."""
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
        under_way: deque[_Sum] = deque()
        for bucket in _buckets([each for each in found if not isinstance(each, DTensor)]):
            under_way.append(_Sum(bucket))
            if len(under_way) > UNDER_WAY:
                under_way.popleft().share()
        while under_way:
            under_way.popleft().share()


class _Sum:
    """A bucket of gradients on its way through the ranks; the next is packed meanwhile."""

    def __init__(self, bucket: Sequence[Tensor]) -> None:
        self.bucket = bucket
        alone = len(bucket) == 1 and bucket[0].is_contiguous()
        self.flat = bucket[0].view(-1) if alone else torch.cat([each.flatten() for each in bucket])
        self.work = dist.all_reduce(self.flat, async_op=True)

    def share(self) -> None:
        """Wait for the sum, and make each gradient its mean."""
        self.work.wait()
        start = 0
        for gradient in self.bucket:
            part = self.flat[start : start + gradient.numel()].view_as(gradient)
            torch.div(part, world_size(), out=gradient)
            start += gradient.numel()


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
