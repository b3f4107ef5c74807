"""A shallower model: some layers of a transformer, the others dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from raybert.errors import SettingsError
from raybert.modules.module import ModuleSequence
from raybert.modules.transformer import Transformer


def keep_layers(model: ModuleSequence, layers: Sequence[int]) -> None:
    """Keep the layers with these numbers (from 0), in this order; the others are dropped.

    Raises:
        SettingsError: the model has no such layers, or no stack of layers at all.
    """
    first = model[0]
    stack = _stack(first.model) if isinstance(first, Transformer) else None
    if stack is None:
        raise SettingsError("keep_layers: this model has no stack of layers to drop from")
    owner, name = stack
    found: nn.ModuleList = getattr(owner, name)
    if wrong := [layer for layer in layers if not 0 <= layer < len(found)]:
        raise SettingsError(f"keep_layers {wrong[0]}: this model has layers 0 to {len(found) - 1}")
    if not layers:
        raise SettingsError("keep_layers: one layer at least is needed")
    setattr(owner, name, nn.ModuleList([found[layer] for layer in layers]))
    transformer: Any = first.model
    config = transformer.config
    for key in ("num_hidden_layers", "n_layers", "num_layers"):
        if key in config.to_dict():
            setattr(config, key, len(layers))
            break


def _stack(model: Any) -> tuple[nn.Module, str] | None:
    """Return the module that holds the layers, and the name it holds them under."""
    depth = getattr(model.config, "num_hidden_layers", None)
    for module in model.modules():
        for name in ("layer", "layers", "h"):
            held = getattr(module, name, None)
            if isinstance(held, nn.ModuleList) and len(held) == depth:
                return module, name
    return None
