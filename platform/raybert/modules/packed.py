"""Linear layers whose weights lie as oneDNN likes them, in float32 or in eight bits, on a CPU.

Two torch operators here are private; `tests/modules/test_fused.py` holds them to what they give.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.devices import TILE_WIDTH, cpu_features, tiles_work

PACKING_TOKENS = 1024
"""Tokens of a usual batch; oneDNN chooses the weights' layout for it."""

LEAST_TILED_ROWS = 32
"""Fewer rows than these wait for weights, which take more bytes as tiles than in float32."""

Made = TypeVar("Made")
_MAKING = threading.Lock()

DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
"""Names of the instructions that multiply bytes and sum without overflow."""

TINY = 1e-12
"""Stands in for the span of a row whose values are all the same."""


class FastLinear(ABC):
    """A linear layer, for inference only, that a CPU runs faster than torch's; rows are [N, D]."""

    @abstractmethod
    def __init__(self, *linears: nn.Linear) -> None:
        """Take the weights of layers of one input, whose outputs are put side by side."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return W x + b."""

    @abstractmethod
    def activated(self, x: Tensor, activation: tuple[str, str]) -> Tensor:
        """Return f(W x + b), f by oneDNN's name and variant."""

    @abstractmethod
    def normed(self, x: Tensor, residual: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return norm(W x + b + residual)."""


class PackedLinear(FastLinear):
    """A linear layer whose weights lie as oneDNN likes them."""

    def __init__(self, *linears: nn.Linear) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKING_TOKENS)
        self.bias = torch.cat([linear.bias.detach() for linear in linears])

    def __call__(self, x: Tensor) -> Tensor:
        """Return W x + b."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y

    def activated(self, x: Tensor, activation: tuple[str, str]) -> Tensor:
        """Return f(W x + b)."""
        name, variant = activation
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, name, [], variant)
        return y

    def normed(self, x: Tensor, residual: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return norm(W x + b + residual)."""
        y: Tensor = norm(
            torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        )
        return y


class QuantizedLinear(FastLinear):
    """A linear layer in eight bits: a scale for each output of the weights, and for each token.

    A token's scale is its own, so what it becomes does not depend on the rest of the batch. oneDNN
    multiplies bytes, with VNNI or AMX where the CPU has them; elsewhere weights have seven bits, as
    the sums of eight would overflow.
    """

    def __init__(self, *linears: nn.Linear) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        most = 127 if DOT_PRODUCTS & cpu_features() else 63
        self.scales = weight.abs().amax(dim=1).clamp_(min=TINY) / most
        bytes_ = (weight / self.scales[:, None]).round_().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(bytes_, [PACKING_TOKENS, weight.shape[1]])
        self.sums = (bytes_.sum(dim=1) * self.scales).numpy()
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.bias = torch.cat([linear.bias.detach() for linear in linears]).numpy()

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return W x + b: with x = low + scale · bytes, W x is scale · W bytes + low · W 1."""
        from raybert.modules import byte_rows  # Numba takes long to import

        floats, bytes_ = x.contiguous().numpy(), torch.empty(x.shape, dtype=torch.uint8)
        low, scale = np.empty((2, len(x)), np.float32)
        byte_rows.to_bytes(floats, floats.view(np.int32), bytes_.numpy(), low, scale)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            bytes_, 1.0, 0, self.weight, self.scales, self.zeros, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        back = (y.numpy(), low, scale, self.sums, self.bias)
        if residual is None:
            byte_rows.from_bytes(*back)
        else:
            byte_rows.from_bytes_added(*back, residual.contiguous().numpy())
        return y

    def activated(self, x: Tensor, activation: tuple[str, str]) -> Tensor:
        """Return f(W x + b)."""
        return activated(self(x), activation)

    def normed(self, x: Tensor, residual: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return norm(W x + b + residual)."""
        y: Tensor = norm(self(x, residual))
        return y


def activated(y: Tensor, activation: tuple[str, str]) -> Tensor:
    """Return f(y), f by oneDNN's name and variant."""
    name, variant = activation
    return F.gelu(y, approximate=variant) if name == "gelu" else y.relu_()


Packed = Callable[..., FastLinear]
"""How linear layers of one input are packed into one."""


def worth_tiles(rows: int) -> bool:
    """Tell whether rows are enough for AMX tiles, and this thread is alone with its batch."""
    return rows >= LEAST_TILED_ROWS and torch.get_num_threads() == 1


def float32_linear(*linears: nn.Linear) -> FastLinear:
    """Pack layers of one input in float32, on AMX tiles where this CPU has them."""
    if not tiles_work() or linears[0].in_features % TILE_WIDTH:
        return PackedLinear(*linears)
    from raybert.modules.tiled import TiledLinear  # Numba takes long to import

    return TiledLinear(*linears)


class OfWeights(Generic[Made]):
    """What is made of a module's weights, and made anew when they change; by one thread at a time.

    Args:
        module: whose weights.
        make: makes it.
    """

    def __init__(self, module: nn.Module, make: Callable[[], Made]) -> None:
        self.module = module
        self.make = make
        self.made: tuple[Any, Made] | None = None

    def __call__(self) -> Made:
        """Return what belongs to the weights as they are."""
        state, made = versions(self.module), self.made
        if made is None or made[0] != state:
            with _MAKING:
                made = self.made
                if made is None or made[0] != state:
                    made = self.made = (state, self.make())
        return made[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "made": None}


class FusedLinear:
    """Stands in for a wide layer's `forward`, such as a language model's over its vocabulary."""

    def __init__(self, linear: nn.Linear, packed: Packed = float32_linear) -> None:
        self.linear = linear
        self.pack = packed
        self.packed = OfWeights(linear, self._pack)

    def __call__(self, x: Tensor) -> Tensor:
        """Return W x + b."""
        if not self._fits(x):
            return F.linear(x, self.linear.weight, self.linear.bias)
        return self.packed()(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)

    def _fits(self, x: Tensor) -> bool:
        return not torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype == torch.float32

    def _pack(self) -> FastLinear:
        return self.pack(self.linear)


class TiledForward(FusedLinear):
    """Stands in for the `forward` of any layer: on tiles where they pay, else as it was."""

    def _fits(self, x: Tensor) -> bool:
        return worth_tiles(x.numel() // self.linear.in_features) and super()._fits(x)


def versions(module: nn.Module) -> list[tuple[int, int]]:
    """Return what changes when a module's weights change or move."""
    return [(weight.data_ptr(), weight._version) for weight in module.parameters()]
