"""A model made ready for training: adapters, less memory for more work, compiled, lean on a CPU."""

from __future__ import annotations

from typing import Any

from raybert.encoders.base import Encoder
from raybert.errors import SettingsError
from raybert.modules import Transformer
from raybert.modules.lean_training import make_lean
from raybert.modules.lora import add_lora
from raybert.training.settings import TrainingSettings


def prepare(encoder: Encoder, settings: TrainingSettings) -> None:
    """Change a model in place as settings ask; its numbers stay the same, LoRA's aside.

    Raises:
        SettingsError: it has no transformer to do this with.
        ModelError: LoRA is asked for without peft.
    """
    scale, lora = settings.scale, settings.lora
    asked = {"gradient_checkpointing": scale.gradient_checkpointing, "compile": scale.compile}
    found = [part for part in encoder.model.modules() if isinstance(part, Transformer)]
    if not found and any(asked.values()):
        name = next(name for name, value in asked.items() if value)
        raise SettingsError(f"scale.{name}: the model has no transformer")
    if lora is not None:
        add_lora(
            encoder.model,
            rank=lora.rank,
            alpha=lora.alpha,
            dropout=lora.dropout,
            layers=lora.layers,
        )
    for part in found:
        if scale.gradient_checkpointing:
            model: Any = part.model  # newer transformers have another name for it
            named = getattr(model, "activation_checkpointing_enable", None)
            (named or model.gradient_checkpointing_enable)({"use_reentrant": False})
        if scale.compile is not None:
            part.model.compile(backend=scale.compile, dynamic=True)
        elif encoder.device.type == "cpu" and not scale.split_weights:
            make_lean(part.model)
