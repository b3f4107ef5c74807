"""A faster forward for BERT-like stacks on a CPU in float32, for inference only.

The stack's own weights are repacked once for oneDNN, whose linear layers reach more of the cores'
matrix rate than the default ones; query, key and value are one product, and GELU and the residual
sums happen inside the products. Same arithmetic, other order of sums: differences stay near 1e-6.

Shapes: B batch, T tokens, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.errors import ModelError
from raybert.modules.packed import FusedLinear, Packed, PackedLinear, QuantizedLinear, versions

ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
"""A configuration's activation to oneDNN's name and variant."""


class Layer(NamedTuple):
    """The parts of one post-norm layer, whatever its architecture calls them."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    first_norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear
    second_norm: nn.LayerNorm


def _bert(layer: Any) -> Layer:
    """Name the parts of a BERT, RoBERTa, XLM-R, CamemBERT or ELECTRA layer."""
    attention, merged = layer.attention.self, layer.attention.output
    return Layer(
        attention.query, attention.key, attention.value, merged.dense, merged.LayerNorm,
        layer.intermediate.dense, layer.output.dense, layer.output.LayerNorm,
    )  # fmt: skip


def _mpnet(layer: Any) -> Layer:
    """Name the parts of an MPNet layer."""
    attention = layer.attention.attn
    return Layer(
        attention.q, attention.k, attention.v, attention.o, layer.attention.LayerNorm,
        layer.intermediate.dense, layer.output.dense, layer.output.LayerNorm,
    )  # fmt: skip


def _distilbert(layer: Any) -> Layer:
    """Name the parts of a DistilBERT layer."""
    attention = layer.attention
    return Layer(
        attention.q_lin, attention.k_lin, attention.v_lin, attention.out_lin,
        layer.sa_layer_norm, layer.ffn.lin1, layer.ffn.lin2, layer.output_layer_norm,
    )  # fmt: skip


STACKS: dict[str, Callable[[Any], Layer]] = {
    "transformers.models.bert.modeling_bert.BertEncoder": _bert,
    "transformers.models.camembert.modeling_camembert.CamembertEncoder": _bert,
    "transformers.models.distilbert.modeling_distilbert.Transformer": _distilbert,
    "transformers.models.electra.modeling_electra.ElectraEncoder": _bert,
    "transformers.models.mpnet.modeling_mpnet.MPNetEncoder": _mpnet,
    "transformers.models.roberta.modeling_roberta.RobertaEncoder": _bert,
    "transformers.models.xlm_roberta.modeling_xlm_roberta.XLMRobertaEncoder": _bert,
}
"""Class of a stack of layers to the names of a layer's parts."""


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
        x = self.first_norm(self.output.added(attended, x))
        y: Tensor = self.second_norm(self.down.added(self.up.activated(x, self.activation), x))
        return y


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


class FusedForward:
    """Stands in for a stack's `forward`: fused where that is possible, the stack's own elsewhere.

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
        packed: Packed = PackedLinear,
        *,
        first_only: bool = False,
    ) -> None:
        self.stack = stack
        self.pack = packed
        self.first_only = first_only
        self.heads: int = config.num_attention_heads
        self.activation = ACTIVATIONS[_activation(config)]
        self.parts = parts
        self._packed: tuple[Any, list[PackedLayer]] | None = None

    def __call__(self, hidden_states: Tensor, attention_mask: Any = None, **options: Any) -> Any:
        """Run the stack over [B, T, D]."""
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        if not self._possible(hidden_states, attention_mask, options):
            options["attention_mask"] = attention_mask
            return type(self.stack).forward(self.stack, hidden_states, **options)
        texts, _, width = hidden_states.shape
        mask = self._mask(hidden_states, attention_mask)
        x = hidden_states.reshape(-1, width)
        for layer in self._layers():
            x = layer(x, texts, mask)
        found = x.view(texts, -1, width)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=found)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def _possible(self, x: Tensor, mask: Any, options: dict[str, Any]) -> bool:
        """Tell whether this call is plain inference on a CPU in float32."""
        return (
            not torch.is_grad_enabled()
            and not self.stack.training
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and (mask is None or (isinstance(mask, Tensor) and mask.ndim == 4))
            and not options.get("output_attentions")
            and not options.get("output_hidden_states")
            and options.get("past_key_values") is None
            and options.get("encoder_hidden_states") is None
            and self._plain()
        )

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

    def _layers(self) -> list[PackedLayer]:
        """Return the packed layers, packing them if the weights have changed."""
        state, packed = versions(self.stack), self._packed
        if packed is None or packed[0] != state:
            layers = [self.parts(layer) for layer in self.stack.layer]
            kinds = [PackedLayer] * len(layers)
            if self.first_only:
                kinds[-1] = FirstTokenLayer
            how = (self.heads, self.activation, self.pack)
            built = [kind(layer, *how) for kind, layer in zip(kinds, layers, strict=True)]
            packed = self._packed = (state, built)
        return packed[1]


def fuse_head(model: Any, packed: Packed = PackedLinear) -> bool:
    """Give a masked language model's product with its vocabulary the faster forward."""
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    packable = isinstance(head, nn.Linear) and head.bias is not None
    if not (packable and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return False
    head.forward = FusedLinear(head, packed)
    return True


def fuse(model: nn.Module, packed: Packed = PackedLinear) -> bool:
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
    for module in model.modules():
        name = f"{type(module).__module__}.{type(module).__qualname__}"
        config: Any = getattr(model, "config", None)
        if name in STACKS and _activation(config) in ACTIVATIONS and not _recorded(config):
            first = type(model).__name__.endswith("ForSequenceClassification")
            module.forward = FusedForward(module, config, STACKS[name], packed, first_only=first)
            return True
    return False


def pack_int8(model: Any, where: str) -> None:
    """Have a model's stack of layers compute its products in eight bits.

    Raises:
        ModelError: its stack is none of `STACKS`, or this torch cannot.
    """
    if not fuse(model, QuantizedLinear):
        raise ModelError(f"{where}: torch:int8 is for BERT-like stacks; export it to onnx instead")
    fuse_head(model, QuantizedLinear)


def _activation(config: Any) -> str:
    """Return the name of a configuration's activation."""
    return str(getattr(config, "hidden_act", None) or getattr(config, "activation", ""))


def _recorded(config: Any) -> bool:
    """Tell whether a configuration asks for more than the last layer, or attends otherwise."""
    return bool(
        getattr(config, "is_decoder", False)
        or config.output_hidden_states
        or config.output_attentions
    )
