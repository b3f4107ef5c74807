"""A weight for each word, such as its inverse document frequency.

Shapes: B batch, T words, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import nn

from raybert.modules.checkpoint import fill, read_config, save_weights, write_config
from raybert.modules.module import Features, Module, Opening


class WordWeights(Module):
    """Weigh words, for instance by their inverse document frequency; pooling divides by the sum.

    Args:
        vocab: the tokenizer's words, in the order of their ids.
        word_weights: weight by word; a word is looked up as it is, then lower-cased.
        unknown_word_weight: weight of words that have none.
    """

    def __init__(
        self,
        vocab: Sequence[str],
        word_weights: Mapping[str, float],
        unknown_word_weight: float = 1,
    ) -> None:
        super().__init__()
        self.config = {
            "vocab": list(vocab),
            "word_weights": dict(word_weights),
            "unknown_word_weight": unknown_word_weight,
        }
        weights = weights_of(vocab, word_weights, unknown_word_weight)
        table_V1 = torch.tensor(weights, dtype=torch.float32)[:, None]
        self.emb_layer = nn.Embedding(len(weights), 1, _weight=table_V1)

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read words and weights."""
        config = read_config(folder / "config.json")
        module = cls(config["vocab"], config["word_weights"], config.get("unknown_word_weight", 1))
        fill(module, folder, allow_pickle=opening.allow_pickle)
        return module.to(opening.dtype)

    def save(self, folder: Path) -> None:
        """Write words and weights."""
        write_config(folder / "config.json", self.config)
        save_weights(self, folder)

    def forward(self, features: Features) -> Features:
        """Multiply each word's vector, [B, T, D], by its weight."""
        weights_BT = self.emb_layer(features["input_ids"])[:, :, 0] * features["attention_mask"]
        features["token_embeddings"] = features["token_embeddings"] * weights_BT[:, :, None]
        features["token_weights_sum"] = weights_BT.sum(dim=1)
        return features


def weights_of(
    vocab: Sequence[str], word_weights: Mapping[str, float], unknown: float
) -> list[float]:
    """Return the weight of each word, looked up as it is, then lower-cased."""
    return [
        float(word_weights.get(word, word_weights.get(word.lower(), unknown))) for word in vocab
    ]
