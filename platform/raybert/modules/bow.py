"""A bag of words: one dimension a word.

Shapes: B batch, T words, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from raybert.errors import ModelError
from raybert.modules.checkpoint import read_config, write_config
from raybert.modules.module import Features, Module, Opening
from raybert.modules.tokenization import Tokenization
from raybert.modules.whitespace import WhitespaceTokenizer
from raybert.modules.word_weights import weights_of


class BoW(Module):
    """Count words: one dimension a word holds how often a text has it times the word's weight.

    Args:
        vocab: the words, one dimension each.
        word_weights: weight by word, such as its inverse document frequency.
        unknown_word_weight: weight of words that have none.
        cumulative_term_frequency: count repeated words; else they count once.
    """

    def __init__(
        self,
        vocab: Sequence[str],
        word_weights: Mapping[str, float] | None = None,
        unknown_word_weight: float = 1,
        cumulative_term_frequency: bool = True,
    ) -> None:
        super().__init__()
        tokenizer = WhitespaceTokenizer(vocab)
        self.tokenization = Tokenization(tokenizer)
        self.config = {
            "vocab": tokenizer.vocab,
            "word_weights": dict(word_weights or {}),
            "unknown_word_weight": unknown_word_weight,
            "cumulative_term_frequency": cumulative_term_frequency,
        }
        weights = weights_of(tokenizer.vocab, word_weights or {}, unknown_word_weight)
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self.cumulative_term_frequency = cumulative_term_frequency

    @classmethod
    def open_tokenization(cls, folder: Path, opening: Opening) -> Tokenization:
        """Read only the words."""
        return cls.load(folder, opening).tokenization

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read words and weights, which lie in `config.json`."""
        config = read_config(folder / "config.json")
        names = ("vocab", "word_weights", "unknown_word_weight", "cumulative_term_frequency")
        if not isinstance(config.get("vocab"), list):
            raise ModelError(f"{folder / 'config.json'}: vocab is missing")
        return cls(**{name: config[name] for name in names if name in config})

    def save(self, folder: Path) -> None:
        """Write words and weights."""
        write_config(folder / "config.json", self.config)

    def width(self, width: int = 0) -> int:
        """Return the number of words."""
        return len(self.weights)

    def forward(self, features: Features) -> Features:
        """Count the words of [B, T] ids; returns [B, V]."""
        ids_BT, mask_BT = features["input_ids"], features["attention_mask"]
        counts_BV = self.weights.new_zeros((len(ids_BT), len(self.weights)))
        counts_BV.scatter_add_(1, ids_BT, mask_BT.to(counts_BV.dtype))
        if not self.cumulative_term_frequency:
            counts_BV = counts_BV.clamp(max=1)
        features["sentence_embedding"] = counts_BV * self.weights
        return features
