"""Stacks of layers that are run by a forward of our own: what their parts are called, and when.

Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

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


class StackForward(ABC):
    """Stands in for a stack's `forward`: ours where a call is plain inference, its own elsewhere.

    Args:
        stack: the stack of layers.
        config: its model's configuration.
        parts: names the parts of a layer.
    """

    def __init__(self, stack: Any, config: Any, parts: Callable[[Any], Layer]) -> None:
        self.stack = stack
        self.heads: int = config.num_attention_heads
        self.activation = ACTIVATIONS[_activation(config)]
        self.parts = parts

    def __call__(self, hidden_states: Tensor, attention_mask: Any = None, **options: Any) -> Any:
        """Run the stack over [B, T, D]."""
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        if not self._possible(hidden_states, attention_mask, options):
            options["attention_mask"] = attention_mask
            return type(self.stack).forward(self.stack, hidden_states, **options)
        found = self._run(hidden_states, attention_mask)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=found)

    @abstractmethod
    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the last layer's [B, T, D], or [B, 1, D] where only that is asked."""

    @abstractmethod
    def _fits(self, x: Tensor) -> bool:
        """Tell whether device and number format are those that ours is made for."""

    def _possible(self, x: Tensor, mask: Any, options: dict[str, Any]) -> bool:
        """Tell whether this call is plain inference."""
        return (
            not torch.is_grad_enabled()
            and not self.stack.training
            and (mask is None or (isinstance(mask, Tensor) and mask.ndim == 4))
            and not options.get("output_attentions")
            and not options.get("output_hidden_states")
            and options.get("past_key_values") is None
            and options.get("encoder_hidden_states") is None
            and self._fits(x)
        )


def find_stack(model: nn.Module) -> tuple[Any, Any, Callable[[Any], Layer]] | None:
    """Return a model's stack of layers, its configuration, and what names a layer's parts.

    Returns:
        None where there is none of `STACKS`, or more is asked of it than its last layer.
    """
    config: Any = getattr(model, "config", None)
    for module in model.modules():
        name = f"{type(module).__module__}.{type(module).__qualname__}"
        if name in STACKS and _activation(config) in ACTIVATIONS and not _recorded(config):
            return module, config, STACKS[name]
    return None


def real_tokens(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return which tokens of [B, T, D] are no padding, bool [B, T].

    Args:
        x: the tokens.
        mask: [B or 1, 1, T or 1, T], bool or added to the scores; None where all are real.
    """
    if mask is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    keys = mask[:, 0, 0].expand(x.shape[:2])
    return keys if keys.dtype == torch.bool else keys == 0


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
