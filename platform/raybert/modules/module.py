"""What every module of a model is: it takes the features of a batch and adds to them.

Feature names (B batch, T tokens, D width, L labels):
    input_ids, attention_mask, token_type_ids  [B, T]
    token_embeddings                           [B, T, D]
    all_layer_embeddings                       tuple of [B, T, D]
    sentence_embedding                         [B, D]
    scores                                     [B, L]
    causal_logits                              [B, kept tokens, V]
    pixel_values                               [B, C, H, W], for models of images
    token_weights_sum                          [B], where words have weights
    prompt_length                              int, leading tokens that belong to the prompt
    task                                       "query", "document" or absent
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from raybert.errors import ModelError

Features = dict[str, Any]
"""The features of one batch, by name."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a model folder is opened.

    Args:
        dtype: number format of the weights in memory.
        trust_remote_code: run Python code that lies in the folder.
        allow_pickle: read `pytorch_model.bin` where no safetensors file is (without running code:
            `torch.load(weights_only=True)`).
        num_labels: size of a classification head; None takes the folder's own.
        backend: what runs the transformer, as `backends.py` names it.
    """

    dtype: torch.dtype = torch.float32
    trust_remote_code: bool = False
    allow_pickle: bool = False
    num_labels: int | None = None
    backend: str = "torch"


class Module(nn.Module):
    """One step of a model. Subclasses say their class name's folder layout in load and save."""

    family: ClassVar[str] = "sentence_transformers.models"
    """Where the reference library keeps this class; with its name it is the type string."""
    in_root: ClassVar[bool] = False
    """Whether this module's files lie in the model's root folder when it comes first."""

    @property
    def written(self) -> nn.Module:
        """The module whose class `modules.json` names."""
        return self

    @property
    def has_own_code(self) -> bool:
        """Whether the class is the user's own, so that its code goes into the folder."""
        return not type(self.written).__module__.startswith("raybert.")

    @property
    def type_name(self) -> str:
        """The type string in `modules.json`, in the form that every version reads."""
        kind = type(self.written)
        family = kind.__module__.rsplit(".", 1)[-1] if self.has_own_code else self.family
        return f"{family}.{kind.__name__}"

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read the module from its folder."""
        raise TypeError(f"{cls.__name__} cannot be read from {folder}")

    @classmethod
    def open_tokenization(cls, folder: Path, opening: Opening) -> Any:
        """Read only the tokenizer, where this is a module that starts a model.

        Raises:
            ModelError: this module does not tokenize.
        """
        raise ModelError(f"the first module must tokenize; {cls.__name__} does not")

    def save(self, folder: Path) -> None:
        """Write the module into its folder (which exists)."""

    def width(self, width: int = 0) -> int:
        """Return the width of the embedding after this module, given the width before it."""
        return width

    def forward(self, features: Features) -> Features:
        """Add this module's result to the features."""
        return features


class ModuleSequence(nn.Sequential):
    """Modules in their order; differentiable, so a training step calls it as it is."""

    def forward(self, features: Features) -> Features:
        """Run every module; the features are extended in place of a copy."""
        features = dict(features)
        for module in self:
            features = module(features)
        return features

    def width(self) -> int:
        """Return the width of the final embedding."""
        width = 0
        for module in self:
            width = module.width(width)  # type: ignore[operator]
        return width
