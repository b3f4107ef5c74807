"""Token embeddings as a weighted mean over the transformer's layers.

Shapes: L layers, B batch, T tokens, D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import nn

from raybert.errors import ModelError
from raybert.modules.checkpoint import fill, read_config, save_weights, write_config
from raybert.modules.module import Features, Module, Opening


class WeightedLayerPooling(Module):
    """Average the outputs of layers `layer_start` and up with learned weights.

    Args:
        embedding_dimension: width of the token embeddings.
        num_hidden_layers: number of the transformer's layers.
        layer_start: first output that counts; 0 is the embedding layer.
    """

    def __init__(
        self, embedding_dimension: int, num_hidden_layers: int = 12, layer_start: int = 4
    ) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.num_hidden_layers = num_hidden_layers
        self.layer_start = layer_start
        self.layer_weights = nn.Parameter(torch.ones(num_hidden_layers + 1 - layer_start))

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read `config.json`, of either generation, and the weights."""
        config = read_config(folder / "config.json")
        width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
        if not isinstance(width, int):
            raise ModelError(f"{folder / 'config.json'}: word_embedding_dimension is missing")
        module = cls(width, config.get("num_hidden_layers", 12), config.get("layer_start", 4))
        fill(module, folder, allow_pickle=opening.allow_pickle)
        return module.to(opening.dtype)

    def save(self, folder: Path) -> None:
        """Write `config.json` with the keys that every version reads, and the weights."""
        config = {
            "word_embedding_dimension": self.embedding_dimension,
            "layer_start": self.layer_start,
            "num_hidden_layers": self.num_hidden_layers,
        }
        write_config(folder / "config.json", config)
        save_weights(self, folder)

    def forward(self, features: Features) -> Features:
        """Average the layers' outputs to [B, T, D]; without them the last layer stays.

        A transformer hands over its layers where its configuration has `output_hidden_states`.
        """
        layers = features.get("all_layer_embeddings")
        if layers is not None:
            layers_LBTD = torch.stack(layers[self.layer_start :])
            total_BTD = torch.einsum("l,lbtd->btd", self.layer_weights, layers_LBTD)
            features["token_embeddings"] = total_BTD / self.layer_weights.sum()
        return features
