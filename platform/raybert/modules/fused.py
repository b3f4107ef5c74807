"""A faster forward for BERT-like stacks on a CPU in float32, for inference only.

The stack's own weights are repacked once: for AMX tiles where the CPU has them (`tiled.py`), else
for oneDNN, whose linear layers reach more of the cores' matrix rate than the default ones. Query,
key and value are one product, and GELU and the residual sums happen inside the products. As exact
as float32's own arithmetic, in another order of sums: differences stay near 1e-6.

Shapes: B batch, T tokens, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.devices import TILE_WIDTH, tiles_work
from raybert.errors import ModelError
from raybert.modules.packed import (
    FusedLinear,
    OfWeights,
    Packed,
    QuantizedLinear,
    TiledForward,
    float32_linear,
)
from raybert.modules.stacks import Layer, StackForward, find_stack

MOST_TILED_WEIGHTS = 350_000_000
"""Weights of layers of an unknown stack for which six more bytes each are not too much memory."""


class PackedLayer:
    """One post-norm transformer layer over flat tokens [B·T, D]."""

    def __init__(
        self, layer: Layer, heads: int, activation: tuple[str, str], packed: Packed
    ) -> None:
        self._pack_attention(layer, packed)
        self.output = packed(layer.output)
        self.up = packed(layer.up)
        self.down = packed(layer.down)
        self.first_norm, self.second_norm = layer.first_norm, layer.second_norm
        self.heads = heads
        self.activation = activation

    def _pack_attention(self, layer: Layer, packed: Packed) -> None:
        self.qkv = packed(layer.query, layer.key, layer.value)

    def __call__(self, x: Tensor, texts: int, mask: Tensor | None) -> Tensor:
        """Run attention and feed-forward, each with its residual and norm."""
        q, k, v = self.qkv(x).view(texts, -1, 3, self.heads, x.shape[1] // self.heads).unbind(2)
        attended = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask
        )
        return self._after(attended.transpose(1, 2).reshape(x.shape), x)

    def _after(self, attended: Tensor, x: Tensor) -> Tensor:
        """Run all that follows attention, token by token."""
        x = self.output.normed(attended, x, self.first_norm)
        return self.down.normed(self.up.activated(x, self.activation), x, self.second_norm)


class FirstTokenLayer(PackedLayer):
    """A last layer of which only each text's first token is asked: the others are keys and values.

    It spares ten twelfths of the layer's products.
    """

    def _pack_attention(self, layer: Layer, packed: Packed) -> None:
        self.query = packed(layer.query)
        self.kv = packed(layer.key, layer.value)

    def __call__(self, x: Tensor, texts: int, mask: Tensor | None) -> Tensor:
        """Return the first tokens [B, D]."""
        first = x.view(texts, -1, x.shape[1])[:, 0].contiguous()
        k, v = self.kv(x).view(texts, -1, 2, self.heads, x.shape[1] // self.heads).unbind(2)
        q = self.query(first).view(texts, 1, self.heads, -1)
        attended = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
            attn_mask=None if mask is None else mask[:, :, :1],
        )  # fmt: skip
        return self._after(attended.transpose(1, 2).reshape(first.shape), first)


class FusedForward(StackForward):
    """The stack with its weights packed for a CPU.

    Weights that were changed (training, loading, moving) are packed anew, by their versions.

    Args:
        stack: the stack of layers.
        config: its model's configuration.
        parts: names the parts of a layer.
        packed: how linear layers are packed.
        first_only: all that follows reads each text's first token; only that is given then.
    """

    def __init__(
        self,
        stack: Any,
        config: Any,
        parts: Callable[[Any], Layer],
        packed: Packed = float32_linear,
        *,
        first_only: bool = False,
    ) -> None:
        super().__init__(stack, config, parts)
        self.pack = packed
        self.first_only = first_only
        self.layers = OfWeights(stack, self._pack_layers)

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Run the packed layers over flat tokens."""
        texts, _, width = x.shape
        one = self._mask(x, mask)
        flat = x.reshape(-1, width)
        for layer in self.layers():
            flat = layer(flat, texts, one)
        return flat.view(texts, -1, width)

    def _fits(self, x: Tensor) -> bool:
        """Tell whether this is a CPU's float32, and no adapter takes the place of a layer."""
        return x.device.type == "cpu" and x.dtype == torch.float32 and self._plain()

    def _plain(self) -> bool:
        """Tell whether every part is the layer it seems; an adapter puts others in their place."""
        found = (part for layer in self.stack.layer for part in self.parts(layer))
        return all(type(part) in (nn.Linear, nn.LayerNorm) for part in found)

    def _mask(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return the additive mask [B, 1 or H, 1 or T, T], with MPNet's position bias in it.

        Attention is the same for all places of a text, so one row of the mask is enough.
        """
        if mask is not None:
            mask = mask[:, :, :1]
            if mask.dtype == torch.bool:
                mask = torch.zeros_like(mask, dtype=x.dtype).masked_fill_(~mask, -torch.inf)
        if not hasattr(self.stack, "compute_position_bias"):
            return mask
        bias: Tensor = self.stack.compute_position_bias(x[:1])
        return bias if mask is None else bias + mask

    def _pack_layers(self) -> list[PackedLayer]:
        """Return the layers, packed."""
        layers = [self.parts(layer) for layer in self.stack.layer]
        kinds = [PackedLayer] * len(layers)
        if self.first_only:
            kinds[-1] = FirstTokenLayer
        how = (self.heads, self.activation, self.pack)
        return [kind(layer, *how) for kind, layer in zip(kinds, layers, strict=True)]


def fuse_head(model: Any, packed: Packed = float32_linear) -> bool:
    """Give a masked language model's product with its vocabulary the faster forward."""
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    packable = isinstance(head, nn.Linear) and head.bias is not None
    if not (packable and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return False
    head.forward = FusedLinear(head, packed)
    return True


def fuse(model: nn.Module, packed: Packed = float32_linear) -> bool:
    """Give a transformers model's stack of layers the faster forward, if it is a known one.

    Args:
        model: the transformers model.
        packed: how its linear layers are packed: in float32, or in int8.

    The heads of sequence classification read the first token: of the others the last layer makes
    keys and values only.

    Returns:
        Whether there is such a stack. Training, GPUs and other formats are not affected.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if (found := find_stack(model)) is None:
        return False
    stack, config, parts = found
    first = type(model).__name__.endswith("ForSequenceClassification")
    stack.forward = FusedForward(stack, config, parts, packed, first_only=first)
    return True


def fuse_float32(model: Any, *, head: bool) -> None:
    """Make a transformers model faster on a CPU in float32, as far as its kind allows.

    Args:
        model: where its stack is none of `STACKS` and the CPU has AMX tiles, each of its linear
            layers multiplies on them, up to `MOST_TILED_WEIGHTS` in all.
        head: its product with its vocabulary is asked for.
    """
    if not fuse(model) and tiles_work():
        layers: list[Any] = [each for each in model.modules() if type(each) is nn.Linear]
        if sum(layer.weight.numel() for layer in layers) <= MOST_TILED_WEIGHTS:
            for layer in layers:
                if not layer.in_features % TILE_WIDTH:
                    layer.forward = TiledForward(layer)
    if head:
        fuse_head(model)


def pack_int8(model: Any, where: str) -> None:
    """Have a model's stack of layers compute its products in eight bits.

    Raises:
        ModelError: its stack is none of `STACKS`, or this torch cannot.
    """
    if not fuse(model, QuantizedLinear):
        raise ModelError(f"{where}: torch:int8 is for BERT-like stacks; export it to onnx instead")
    fuse_head(model, QuantizedLinear)
