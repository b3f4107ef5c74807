"""Gradient caching: any loss over a batch that does not fit into memory (GradCache).

The batch is embedded in mini-batches without gradient, the loss gives the gradient of every
embedding, and the backward pass embeds each mini-batch again, under its own random state, to
carry that gradient into the model. arXiv:2101.06983. Value and gradients are those of the plain
step over the same mini-batches. Shapes: N rows of a column, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from raybert.losses.loss import Loss, LossInputs, Terms, total
from raybert.training.mini_batches import MiniBatches, Rows

EMBEDDING = "sentence_embedding"
"""Output that becomes a loss's column, named as modules name it; the others become details."""


Embed = Callable[[int, Any], Mapping[str, Tensor]]
"""Embeds rows of a column, given its number: outputs by name, `EMBEDDING` among them, [N, ...]."""


@dataclass(frozen=True, slots=True)
class StepLoss:
    """The loss of one step, ready for `backward`, and its addends for the log (no gradient)."""

    loss: Tensor
    terms: Terms


@dataclass(slots=True)
class _Pass:
    """One mini-batch of the first pass: what it takes to repeat it."""

    column: int
    rows: list[int]
    random: RandomState
    gradients: dict[str, Tensor] = field(default_factory=dict)


class RandomState:
    """The random state of CPU and current GPU at the moment it is made."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        has_gpu: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self.devices = [torch.cuda.current_device()] if has_gpu else []
        self.gpu = [torch.cuda.get_rng_state(device) for device in self.devices]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Run a block under this state; the state outside goes on untouched."""
        with torch.random.fork_rng(devices=self.devices):
            torch.set_rng_state(self.cpu)
            for device, state in zip(self.devices, self.gpu, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


def plain_step(
    embed: Embed, columns: Sequence[Rows], loss: Loss, labels: Tensor | None = None
) -> StepLoss:
    """Embed every column at once and return the loss with its graph."""
    outputs = [embed(number, rows.take(range(len(rows)))) for number, rows in enumerate(columns)]
    terms = loss.terms(_inputs(outputs), labels)
    return StepLoss(total(terms), {name: term.detach() for name, term in terms.items()})


def cached_step(
    embed: Embed,
    columns: Sequence[Rows],
    loss: Loss,
    labels: Tensor | None = None,
    *,
    limits: MiniBatches | None = None,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> StepLoss:
    """Return the loss of a batch that is embedded in mini-batches, twice.

    The returned loss may be scaled, added to others and sent backward at any later time, more
    than one step being open; the mixed-precision context of this call is taken up again then.

    Args:
        embed: forward pass of some rows of a column.
        columns: the batch, column by column.
        loss: any loss; a `GatheredLoss` for candidates from every process.
        labels: of the batch.
        limits: size of the mini-batches.
        no_sync: context in which a backward pass leaves gradients on this rank (`ddp.no_sync`);
            only the last mini-batch's runs outside of it.
    """
    return _CachedStep(embed, columns, loss, limits or MiniBatches(), no_sync).run(labels)


class _CachedStep:
    """The state of one step between its forward and its backward pass."""

    def __init__(
        self,
        embed: Embed,
        columns: Sequence[Rows],
        loss: Loss,
        limits: MiniBatches,
        no_sync: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.embed, self.columns, self.loss = embed, columns, loss
        self.limits, self.no_sync = limits, no_sync
        self.passes: list[_Pass] = []
        self.parameters = [each for each in loss.parameters() if each.requires_grad]
        self.parameter_gradients: list[Tensor | None] = []

    def run(self, labels: Tensor | None) -> StepLoss:
        """Embed, compute the loss, and keep every embedding's gradient for the replay."""
        differentiate = torch.is_grad_enabled()
        outputs = [self._embed_column(number, differentiate) for number in range(len(self.columns))]
        if not differentiate:
            terms = self.loss.terms(_inputs(outputs), labels)
            return StepLoss(total(terms), terms)
        terms = self._differentiate(outputs, labels)
        self.autocast = _autocast_like(outputs[0][EMBEDDING].device)
        anchor = torch.zeros((), device=outputs[0][EMBEDDING].device, requires_grad=True)
        loss: Tensor = _Replay.apply(anchor, total(terms), self._replay)  # type: ignore[no-untyped-call]
        return StepLoss(loss, terms)

    def _embed_column(self, number: int, differentiate: bool) -> dict[str, Tensor]:
        """Embed a column without gradient; outputs that have one become leaves, [N, ...]."""
        split = self.limits.split(self.columns[number].lengths)
        parts: list[dict[str, Tensor]] = []
        trained: set[str] = set()
        for place, rows in enumerate(split):
            self.passes.append(_Pass(number, rows, RandomState()))
            # The last mini-batch is run with a graph, to see which outputs are trained at all.
            probe = differentiate and place == len(split) - 1
            with torch.set_grad_enabled(probe), self.no_sync():
                output = self.embed(number, self.columns[number].take(rows))
            trained |= {name for name, tensor in output.items() if tensor.requires_grad}
            parts.append({name: tensor.detach() for name, tensor in output.items()})
        back = torch.tensor([row for rows in split for row in rows]).argsort()
        return {
            name: torch.cat([part[name] for part in parts])[back.to(tensor.device)].requires_grad_(
                name in trained
            )
            for name, tensor in parts[0].items()
        }

    def _differentiate(
        self, outputs: Sequence[Mapping[str, Tensor]], labels: Tensor | None
    ) -> Terms:
        """Compute the loss, chunk by chunk, and keep what each pass has to carry back."""
        named = [(n, name) for n, output in enumerate(outputs) for name in output]
        leaves = [(n, name) for n, name in named if outputs[n][name].requires_grad]
        targets = [outputs[n][name] for n, name in leaves] + self.parameters
        sums: list[Tensor | None] = [None] * len(targets)
        terms: Terms = {}
        for inputs, share in self._chunks(_inputs(outputs)):
            found = {name: term * share for name, term in self.loss.terms(inputs, labels).items()}
            if targets:
                gradients = torch.autograd.grad(total(found), targets, allow_unused=True)
                sums = [_plus(*pair) for pair in zip(sums, gradients, strict=True)]
            terms = {name: terms.get(name, 0) + term.detach() for name, term in found.items()}
        for (number, name), gradient in zip(leaves, sums, strict=False):
            for each in self.passes:
                if each.column == number and gradient is not None:
                    each.gradients[name] = gradient[each.rows]
        self.parameter_gradients = sums[len(leaves) :]
        return terms

    def _chunks(self, inputs: LossInputs) -> Iterator[tuple[LossInputs, float]]:
        """Return the inputs with part of the rows as own, and that part's share."""
        size = self.limits.loss_rows if self.loss.by_rows else None
        if size is None or size >= inputs.rows:
            yield inputs, 1.0
            return
        for start in range(0, inputs.rows, size):
            own = slice(start, min(start + size, inputs.rows))
            yield inputs.with_own(own), (own.stop - own.start) / inputs.rows

    def _replay(self, scale: Tensor) -> None:
        """Embed every mini-batch again, with gradient, and carry the kept gradients back."""
        repeated = [each for each in self.passes if each.gradients]
        with torch.enable_grad():
            own = _dot(zip(self.parameters, self.parameter_gradients, strict=True))
        for each in repeated:
            is_last = each is repeated[-1]
            synced = nullcontext() if is_last else self.no_sync()
            with synced, each.random.restored(), torch.enable_grad():
                with self.autocast():
                    output = self.embed(each.column, self.columns[each.column].take(each.rows))
                carried = _dot((output[name], kept) for name, kept in each.gradients.items())
                _backward((carried + own if is_last else carried) * scale)
        if not repeated and own.requires_grad:
            _backward(own * scale)


class _Replay(torch.autograd.Function):
    """Stands for the whole batch in the graph: its backward pass is the replay."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, value: Tensor, replay: Callable[[Tensor], None]
    ) -> Tensor:
        ctx.replay = replay
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        ctx.replay(gradients[0])
        return None, None, None


def _inputs(outputs: Sequence[Mapping[str, Tensor]]) -> LossInputs:
    """Make a loss's inputs of the columns' outputs."""
    details = [name for name in outputs[0] if name != EMBEDDING]
    return LossInputs(
        tuple(output[EMBEDDING] for output in outputs),
        {name: tuple(output[name] for output in outputs) for name in details},
    )


def _autocast_like(device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Return what sets up the mixed precision that is active now."""
    enabled = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type)
    return lambda: torch.autocast(device.type, dtype=dtype, enabled=enabled)


def _dot(pairs: Iterable[tuple[Tensor, Tensor | None]]) -> Tensor:
    """Return the sum of products of outputs and their gradients, in float32 at least."""
    products = [torch.zeros(())]
    for output, gradient in pairs:
        if gradient is not None:
            wide = torch.promote_types(output.dtype, torch.float32)
            products.append((output.to(wide) * gradient.to(wide)).sum())
    return torch.stack([product.to(products[-1]) for product in products]).sum()


def _plus(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    return right if left is None else left if right is None else left + right


def _backward(value: Tensor) -> None:
    value.backward()  # type: ignore[no-untyped-call]
