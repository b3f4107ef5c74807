"""Candidates from every process: the columns of all ranks, with gradient, as one batch.

`GatheredLoss` makes any loss see the whole batch. The mean over ranks of its values is the value
of one process on the whole batch, and the mean over ranks of its gradients (what DDP computes)
is that process's gradient. Columns are gathered one by one, so the order is column by column
and, within a column, rank by rank. Shapes: B rows of this rank, N rows of all, W ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from raybert.errors import InputError
from raybert.losses.loss import CompoundLoss, LabelKind, Loss, LossInputs, Terms


class GatheredLoss(CompoundLoss):
    """Any loss over the rows of all processes; without a process group, the loss itself.

    Losses whose rows do not meet (`in_batch` false) are left alone: their mean over ranks is
    right already. A loss `by_rows` computes its own rows only; any other computes the whole
    batch on every rank.

    Args:
        loss: any loss.
        group: the processes; all by default.
    """

    def __init__(self, loss: Loss, group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.group = group
        self.follow(loss)

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the loss's terms for the gathered batch.

        Raises:
            InputError: ranks have unequal rows, or gather different columns.
        """
        if not self.loss.in_batch or world_size(self.group) == 1:
            return self.loss.terms(inputs, labels)
        if labels is not None and self.labels is LabelKind.LIST:
            labels = _widen(labels, self.group)
        return self.loss.terms(*gather_inputs(inputs, labels, self.group))

    def at_step(self, step: int, total_steps: int) -> None:
        """Pass the step on."""
        self.loss.at_step(step, total_steps)


def gather_inputs(
    inputs: LossInputs, labels: Tensor | None, group: dist.ProcessGroup | None = None
) -> tuple[LossInputs, Tensor | None]:
    """Return inputs and labels of all ranks, `own` being this rank's rows of the columns."""
    names = list(inputs.details)
    tensors = [*inputs.columns, *(each for name in names for each in inputs.details[name])]
    counts = _row_counts([*tensors, *([] if labels is None else [labels])], group)
    rank = dist.get_rank(group)
    _check_counts(counts, rank)
    gathered = [_gather(each, rows, group) for each, rows in zip(tensors, counts, strict=False)]
    columns, rest = gathered[: len(inputs.columns)], iter(gathered[len(inputs.columns) :])
    details = {name: tuple(next(rest) for _ in inputs.details[name]) for name in names}
    start, (first, stop, _) = (
        sum(counts[0][:rank]),
        (inputs.own or slice(None)).indices(inputs.rows),
    )
    own = slice(start + first, start + stop)
    whole = None if labels is None else _gather(labels, counts[-1], group)
    return replace(inputs, columns=tuple(columns), details=details, own=own), whole


def gather_rows(tensor: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Return the rows of all ranks [N, ...], in the order of ranks, with gradient.

    The backward pass sums the gradients of all ranks. Ranks may have different numbers of rows.
    """
    if world_size(group) == 1:
        return tensor
    return _gather(tensor, _row_counts([tensor], group)[0], group)


def world_size(group: dist.ProcessGroup | None = None) -> int:
    """Return the number of processes, 1 without a process group."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


class _AllGather(torch.autograd.Function):
    """All-gather of equally many rows, whose backward pass sums over the ranks."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        parts = [torch.empty_like(tensor) for _ in range(world_size(group))]
        dist.all_gather(parts, tensor.contiguous(), group=group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous()
        rows = len(gradient) // world_size(ctx.group)
        if dist.get_backend(ctx.group) == "nccl":
            own = gradient.new_empty(rows, *gradient.shape[1:])
            dist.reduce_scatter_tensor(own, gradient, group=ctx.group)
            return own, None
        gradient = gradient.clone()
        dist.all_reduce(gradient, group=ctx.group)
        start = dist.get_rank(ctx.group) * rows
        return gradient[start : start + rows], None


def _gather(tensor: Tensor, rows: Sequence[int], group: dist.ProcessGroup | None) -> Tensor:
    """Gather tensors of `rows` rows each: filled up to the longest, cut again afterwards."""
    if tensor.dtype == torch.bool:
        return _gather(tensor.to(torch.uint8), rows, group).bool()
    longest = max(rows)
    padding = [0, 0] * (tensor.ndim - 1) + [0, longest - len(tensor)]
    whole: Tensor = _AllGather.apply(F.pad(tensor, padding), group)  # type: ignore[no-untyped-call]
    if min(rows) == longest:
        return whole
    return torch.cat(
        [part[:count] for part, count in zip(torch.split(whole, longest), rows, strict=True)]
    )


def _row_counts(
    tensors: Sequence[Tensor], group: dist.ProcessGroup | None
) -> list[tuple[int, ...]]:
    """Return, for each tensor, its rows on every rank; one small collective for them all."""
    own = torch.tensor([len(each) for each in tensors], device=tensors[0].device)
    parts = [torch.empty_like(own) for _ in range(world_size(group))]
    dist.all_gather(parts, own, group=group)
    return [tuple(row) for row in torch.stack(parts, dim=1).tolist()]


def _check_counts(counts: Sequence[tuple[int, ...]], rank: int) -> None:
    """Refuse a last, partial batch: the mean over ranks would weigh its rows differently."""
    if len(set(counts[-1])) > 1:
        raise InputError(
            f"ranks have {', '.join(map(str, counts[-1]))} rows: gathering needs equally many; "
            f"drop the last partial batch (rank {rank})"
        )


def _widen(labels_QL: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Fill lists of labels up with NaN to the longest list of all ranks."""
    longest = torch.tensor(labels_QL.shape[1], device=labels_QL.device)
    dist.all_reduce(longest, op=dist.ReduceOp.MAX, group=group)
    return F.pad(labels_QL.float(), (0, int(longest) - labels_QL.shape[1]), value=torch.nan)
