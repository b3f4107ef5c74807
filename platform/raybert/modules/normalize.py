"""Unit length: x / |x|."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from torch.nn import functional as F

from raybert.modules.checkpoint import read_config, write_config
from raybert.modules.module import Features, Module, Opening

SENTENCE = "sentence_embedding"


class Normalize(Module):
    """Scale an embedding to unit length (a zero vector stays zero).

    Args:
        module_input_name: feature to read, [..., D].
        module_output_name: feature to write; None writes where it read.
    """

    def __init__(
        self, module_input_name: str = SENTENCE, module_output_name: str | None = None
    ) -> None:
        super().__init__()
        self.module_input_name = module_input_name
        self.module_output_name = module_output_name or module_input_name

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read the module; its folder may be missing or empty."""
        config = read_config(folder / "config.json", default={})
        return cls(config.get("module_input_name") or SENTENCE, config.get("module_output_name"))

    def save(self, folder: Path) -> None:
        """Write a configuration only where the features are not the usual ones."""
        names = {
            "module_input_name": self.module_input_name,
            "module_output_name": self.module_output_name,
        }
        if set(names.values()) != {SENTENCE}:
            write_config(folder / "config.json", names)

    def forward(self, features: Features) -> Features:
        """Normalize over the last axis."""
        features[self.module_output_name] = F.normalize(
            features[self.module_input_name], p=2, dim=-1
        )
        return features
