"""Layer normalization of an embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from torch import nn

from raybert.modules.checkpoint import fill, read_config, save_weights, write_config
from raybert.modules.module import Features, Module, Opening


class LayerNorm(Module):
    """Standardise an embedding over its width, with a learned scale and shift.

    Args:
        dimension: width of the embedding.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read `config.json` and the weights."""
        module = cls(read_config(folder / "config.json")["dimension"])
        fill(module, folder, allow_pickle=opening.allow_pickle)
        return module.to(opening.dtype)

    def save(self, folder: Path) -> None:
        """Write `config.json` and the weights."""
        write_config(folder / "config.json", {"dimension": self.norm.normalized_shape[0]})
        save_weights(self, folder)

    def forward(self, features: Features) -> Features:
        """Normalize [B, D]."""
        features["sentence_embedding"] = self.norm(features["sentence_embedding"])
        return features
