"""Static token weights: a query's sparse embedding without inference.

Geng et al., Towards Competitive Search Relevance for Inference-Free Learned Sparse Retrievers,
arXiv:2411.04403. Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from raybert.modules.checkpoint import (
    fill,
    module_folder,
    read_config,
    save_weights,
    write_config,
)
from raybert.modules.module import Features, Module, Opening
from raybert.modules.tokenization import UNLIMITED, Tokenization, open_tokenizer


class SparseStaticEmbedding(Module):
    """Weight of a token where the text has it (however often), else zero.

    Args:
        tokenizer: a transformers tokenizer.
        weight: one weight for each token id, [V]; None starts with ones.
        frozen: whether training leaves the weights alone.
    """

    family: ClassVar[str] = "sentence_transformers.sparse_encoder.models"
    in_root: ClassVar[bool] = True

    def __init__(self, tokenizer: Any, weight: Tensor | None = None, frozen: bool = False) -> None:
        super().__init__()
        self.tokenization = _tokenization(tokenizer)
        self.frozen = frozen
        start = torch.ones(len(tokenizer.get_vocab())) if weight is None else weight
        self.weight = nn.Parameter(start, requires_grad=not frozen)

    @classmethod
    def from_weights(cls, weights: Mapping[str, float], tokenizer: Any, **options: Any) -> Self:
        """Build the module from weights by token, such as their inverse document frequencies."""
        weight_V = torch.zeros(len(tokenizer.get_vocab()))
        ids = tokenizer.convert_tokens_to_ids(list(weights))
        weight_V[torch.tensor(ids)] = torch.tensor(list(weights.values()), dtype=torch.float32)
        return cls(tokenizer, weight_V, **options)

    @classmethod
    def open_tokenization(cls, folder: Path, opening: Opening) -> Tokenization:
        """Read only the tokenizer."""
        return _tokenization(open_tokenizer(folder, trust_remote_code=opening.trust_remote_code))

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read configuration, tokenizer and weights (tensors, or a JSON file by token)."""
        config = read_config(folder / "config.json", default={})
        tokenizer = open_tokenizer(folder, trust_remote_code=opening.trust_remote_code)
        frozen = bool(config.get("frozen", False))
        listed = str(config.get("path") or "")
        if listed.endswith(".json"):
            weights = read_config(module_folder(folder, listed))
            return cls.from_weights(weights, tokenizer, frozen=frozen)
        module = cls(tokenizer, frozen=frozen)
        fill(module, folder, allow_pickle=opening.allow_pickle)
        return module.to(opening.dtype)

    def save(self, folder: Path) -> None:
        """Write configuration, tokenizer and weights."""
        self.tokenization.save(folder)
        write_config(folder / "config.json", {"frozen": self.frozen})
        save_weights(self, folder)

    def width(self, width: int = 0) -> int:
        """Return the size of the vocabulary."""
        return len(self.weight)

    def forward(self, features: Features) -> Features:
        """Turn ids [B, T] into weights [B, V]; an embedding made before is weighted by them."""
        ids_BT, mask_BT = features["input_ids"], features["attention_mask"]
        present_BV = torch.zeros(
            (len(ids_BT), len(self.weight)), dtype=self.weight.dtype, device=ids_BT.device
        )
        counted_BT = mask_BT.to(present_BV.dtype)
        present_BV.scatter_reduce_(1, ids_BT, counted_BT, reduce="amax")
        weights_BV = present_BV * self.weight
        before = features.get("sentence_embedding")
        features["sentence_embedding"] = weights_BV if before is None else weights_BV * before
        return features


def _tokenization(tokenizer: Any) -> Tokenization:
    """Tokenize without special tokens, up to the tokenizer's own limit."""
    limit = tokenizer.model_max_length
    return Tokenization(tokenizer, limit if limit < UNLIMITED else None, special_tokens=False)
