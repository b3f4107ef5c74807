"""From a masked language model's logits to one weight for each word of the vocabulary (SPLADE).

Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from raybert.errors import ModelError
from raybert.modules.checkpoint import read_config, write_config
from raybert.modules.module import Features, Module, Opening

STRATEGIES = ("max", "sum")
ACTIVATIONS = ("relu", "log1p_relu")


class SpladePooling(Module):
    """w_v = max over tokens (or sum) of log(1 + relu(logit_v)); padding counts as 0.

    Formal et al., SPLADE, arXiv:2107.05720 (sum) and v2, arXiv:2109.10086 (max).

    Args:
        pooling_strategy: "max" or "sum" over the tokens.
        activation_function: "relu" takes the logarithm once, "log1p_relu" twice.
        embedding_dimension: size of the vocabulary, where it is known.
    """

    family: ClassVar[str] = "sentence_transformers.sparse_encoder.models"

    def __init__(
        self,
        pooling_strategy: str = "max",
        activation_function: str = "relu",
        embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        for value, allowed in (
            (pooling_strategy, STRATEGIES),
            (activation_function, ACTIVATIONS),
        ):
            if value not in allowed:
                raise ModelError(f"SpladePooling {value!r}: allowed are {', '.join(allowed)}")
        self.pooling_strategy = pooling_strategy
        self.activation_function = activation_function
        self.embedding_dimension = embedding_dimension

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read `config.json`."""
        config = read_config(folder / "config.json")
        return cls(
            config.get("pooling_strategy", "max"),
            config.get("activation_function", "relu"),
            config.get("embedding_dimension", config.get("word_embedding_dimension")),
        )

    def save(self, folder: Path) -> None:
        """Write `config.json` with the keys that every version reads."""
        config: dict[str, Any] = {
            "pooling_strategy": self.pooling_strategy,
            "activation_function": self.activation_function,
            "word_embedding_dimension": self.embedding_dimension,
        }
        write_config(folder / "config.json", config)

    def width(self, width: int = 0) -> int:
        """Return the size of the vocabulary."""
        return width or self.embedding_dimension or 0

    def forward(self, features: Features) -> Features:
        """Pool logits [B, T, V] to weights [B, V]."""
        logits_BTV: Tensor = features["token_embeddings"]
        mask_BT: Tensor = features["attention_mask"]
        pool = self._pooled if logits_BTV.requires_grad else self._pooled_row_by_row
        features["sentence_embedding"] = pool(logits_BTV, mask_BT)
        return features

    def _pooled(self, logits_BTV: Tensor, mask_BT: Tensor) -> Tensor:
        """Pool with gradients. The maximum comes first: all that follows is monotone."""
        masked_BTV = logits_BTV * mask_BT[:, :, None].to(logits_BTV.dtype)
        if self.pooling_strategy == "max":
            return self._saturated(masked_BTV.max(dim=1).values)
        return self._saturated(masked_BTV).sum(dim=1)

    def _pooled_row_by_row(self, logits_BTV: Tensor, mask_BT: Tensor) -> Tensor:
        """Pool without a second tensor of [B, T, V]: each text's own tokens are a slice of it."""
        firsts = mask_BT.to(torch.int32).argmax(dim=1).tolist()
        counts = mask_BT.sum(dim=1).tolist()
        out_BV = logits_BTV.new_zeros((logits_BTV.shape[0], logits_BTV.shape[2]))
        for row, (first, count) in enumerate(zip(firsts, counts, strict=True)):
            own_TV = logits_BTV[row, first : first + count]
            if not count:
                continue
            if self.pooling_strategy == "max":
                out_BV[row] = own_TV.amax(dim=0)
            else:
                out_BV[row] = self._saturated(own_TV).sum(dim=0)
        return self._saturated(out_BV) if self.pooling_strategy == "max" else out_BV

    def _saturated(self, logits: Tensor) -> Tensor:
        """Return log(1 + relu(x)), once or twice over."""
        weights = logits.relu().log1p()
        return weights.log1p() if self.activation_function == "log1p_relu" else weights
