"""Low-rank adapters: small matrices are trained beside the frozen weights, then added to them.

W' = W + alpha / r * B A, with A [r, in] and B [out, r]; arXiv:2106.09685. `peft` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from raybert.errors import ModelError, SettingsError
from raybert.modules.fused import FusedForward, fuse_float32
from raybert.modules.packed import FusedLinear
from raybert.modules.transformer import Transformer


def add_lora(
    model: nn.Module,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    layers: Sequence[str] = (),
) -> None:
    """Freeze a model's transformers and put adapters into their linear layers.

    What is behind a transformer (a head of its own, a dense layer) is trained as before.

    Args:
        model: modules, with one transformer at least.
        rank: r, the width of an adapter.
        alpha: strength; the adapter's product is scaled by alpha / r.
        dropout: share of an adapter's inputs dropped while training.
        layers: names of the linear layers, by their last part (`query`, `value`); peft's choice
            for the architecture if none.

    Raises:
        ModelError: there is no transformer, or peft is not installed.
        SettingsError: no layer has one of these names.
    """
    try:
        import peft
    except ImportError:
        raise ModelError("LoRA needs the extra `peft`: pip install 'raybert[peft]'") from None
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(layers) or None,
        modules_to_save=["classifier"],
    )
    for module in _transformers(model):
        _unfuse(module.model)
        try:
            module.model = peft.get_peft_model(module.model, config)
        except ValueError as error:
            raise SettingsError(f"lora.layers: {' '.join(str(error).split())[:200]}") from None


def merge_lora(model: nn.Module) -> None:
    """Add the adapters to the weights they stand beside, and take them out, if there are any."""
    for module in model.modules():
        if isinstance(module, Transformer) and hasattr(module.model, "merge_and_unload"):
            module.model = module.model.merge_and_unload()
            fuse_float32(module.model, head=module.task == "fill-mask")


def _transformers(model: nn.Module) -> list[Transformer]:
    """Return the transformers among the modules."""
    found = [module for module in model.modules() if isinstance(module, Transformer)]
    if not found:
        raise ModelError("LoRA needs a transformer; this model has none")
    return found


def _unfuse(model: Any) -> None:
    """Give layers their own forward back: the fused one reads weights without their adapters."""
    for module in model.modules():
        if isinstance(module.__dict__.get("forward"), FusedForward | FusedLinear):
            del module.forward
