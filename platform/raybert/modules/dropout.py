"""Dropout of an embedding, in training only."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from torch import nn

from raybert.modules.checkpoint import read_config, write_config
from raybert.modules.module import Features, Module, Opening


class Dropout(Module):
    """Set a share of an embedding's values to zero in training.

    Args:
        dropout: the share, 0 to 1.
    """

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout_layer = nn.Dropout(dropout)

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read `config.json`."""
        return cls(read_config(folder / "config.json")["dropout"])

    def save(self, folder: Path) -> None:
        """Write `config.json`."""
        write_config(folder / "config.json", {"dropout": self.dropout_layer.p})

    def forward(self, features: Features) -> Features:
        """Drop out of [B, D]."""
        features["sentence_embedding"] = self.dropout_layer(features["sentence_embedding"])
        return features
