"""From token embeddings to one embedding of the text: six ways, and their concatenations.

Shapes: B batch, T tokens, D width, M modes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from raybert.errors import ModelError
from raybert.modules.checkpoint import read_config, write_config
from raybert.modules.module import Features, Module, Opening

LEGACY_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Mode and the key it has in configuration files up to version 5.3, in order of concatenation."""

POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


class Pooling(Module):
    """Pool token embeddings; right for either padding side; sums are taken in float32.

    Args:
        embedding_dimension: width D of the token embeddings.
        pooling_mode: one mode, or several whose results are concatenated in the order given.
        include_prompt: whether the prompt's tokens count (INSTRUCTOR models leave them out).
    """

    def __init__(
        self,
        embedding_dimension: int,
        pooling_mode: str | Sequence[str] = "mean",
        *,
        include_prompt: bool = True,
    ) -> None:
        super().__init__()
        self.modes = (pooling_mode,) if isinstance(pooling_mode, str) else tuple(pooling_mode)
        for mode in self.modes:
            if mode not in POOLERS:
                allowed = ", ".join(POOLING_MODES)
                raise ModelError(f"pooling mode {mode!r}: allowed are {allowed}")
        self.embedding_dimension = embedding_dimension
        self.include_prompt = include_prompt

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read `config.json`, of either generation; no mode at all means mean."""
        config = read_config(folder / "config.json")
        width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
        if not isinstance(width, int):
            raise ModelError(f"{folder / 'config.json'}: word_embedding_dimension is missing")
        modes = config.get("pooling_mode") or [
            mode for mode, key in LEGACY_KEYS.items() if config.get(key)
        ]
        return cls(width, modes or "mean", include_prompt=config.get("include_prompt", True))

    def save(self, folder: Path) -> None:
        """Write the keys that every version reads; an unusual order needs the new keys."""
        if list(self.modes) == [mode for mode in LEGACY_KEYS if mode in self.modes]:
            config: dict[str, Any] = {"word_embedding_dimension": self.embedding_dimension}
            config |= {key: mode in self.modes for mode, key in LEGACY_KEYS.items()}
        else:
            config = {
                "embedding_dimension": self.embedding_dimension,
                "pooling_mode": list(self.modes),
            }
        write_config(folder / "config.json", config | {"include_prompt": self.include_prompt})

    def width(self, width: int = 0) -> int:
        """Return the width after concatenation, M·D."""
        return len(self.modes) * self.embedding_dimension

    def forward(self, features: Features) -> Features:
        """Pool [B, T, D] to [B, M·D]."""
        tokens_BTD: Tensor = features["token_embeddings"]
        mask_BT: Tensor = features["attention_mask"]
        first_B = mask_BT.to(torch.int32).argmax(dim=1)
        prompt_length = int(features.get("prompt_length", 0))
        if prompt_length and not self.include_prompt:
            places_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
            behind_BT = places_T[None, :] >= (first_B + prompt_length)[:, None]
            mask_BT = mask_BT * behind_BT
        places = Places(mask_BT, first_B, features.get("token_weights_sum"))
        pooled = [POOLERS[mode](tokens_BTD, places) for mode in self.modes]
        features["sentence_embedding"] = torch.cat(pooled, dim=-1)
        return features


class Places(NamedTuple):
    """Which tokens count, and for how much.

    Args:
        mask: [B, T], 1 at tokens that count.
        first: [B], each text's first real token.
        weight: [B], sum of the weights that `WordWeights` gave its tokens; None where it did not.
    """

    mask: Tensor
    first: Tensor
    weight: Tensor | None = None


def _cls(tokens_BTD: Tensor, at: Places) -> Tensor:
    """Take the first token that counts (the first place where none does)."""
    return _token(tokens_BTD, at.mask.to(torch.int32).argmax(dim=1))


def _lasttoken(tokens_BTD: Tensor, at: Places) -> Tensor:
    """Take the last token that counts; zero where none does."""
    back_B = at.mask.to(torch.int32).flip(1).argmax(dim=1)
    some_B1 = at.mask.any(dim=1, keepdim=True).to(tokens_BTD.dtype)
    return _token(tokens_BTD, at.mask.shape[1] - 1 - back_B) * some_B1


def _token(tokens_BTD: Tensor, place_B: Tensor) -> Tensor:
    """Take one token of each text."""
    return tokens_BTD[torch.arange(len(place_B), device=place_B.device), place_B]


def _max(tokens_BTD: Tensor, at: Places) -> Tensor:
    """Take the largest value of each dimension; -inf where no token counts."""
    return tokens_BTD.masked_fill(~at.mask.bool()[:, :, None], float("-inf")).amax(dim=1)


def _weighted_sum(
    tokens_BTD: Tensor, weights_BT: Tensor, weight_B: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the weighted sum [B, D] and the sum of weights [B, 1], in at least float32."""
    wide = torch.promote_types(tokens_BTD.dtype, torch.float32)
    weights_BT = weights_BT.to(wide)
    total_BD = torch.bmm(weights_BT[:, None, :], tokens_BTD.to(wide))[:, 0]
    weight_B = weights_BT.sum(dim=1) if weight_B is None else weight_B.to(wide)
    return total_BD, weight_B[:, None].clamp(min=1e-9)


def _mean(tokens_BTD: Tensor, at: Places) -> Tensor:
    """Average the tokens."""
    total_BD, count_B1 = _weighted_sum(tokens_BTD, at.mask, at.weight)
    return (total_BD / count_B1).to(tokens_BTD.dtype)


def _mean_sqrt_len(tokens_BTD: Tensor, at: Places) -> Tensor:
    """Divide the sum by the square root of the number of tokens."""
    total_BD, count_B1 = _weighted_sum(tokens_BTD, at.mask, at.weight)
    return (total_BD / count_B1.sqrt()).to(tokens_BTD.dtype)


def _weighted_mean(tokens_BTD: Tensor, at: Places) -> Tensor:
    """Average with weights 1, 2, 3 … counted from each text's first token (SGPT)."""
    places_T = torch.arange(1, at.mask.shape[1] + 1, device=at.mask.device)
    weights_BT = at.mask * (places_T[None, :] - at.first[:, None])
    total_BD, weight_B1 = _weighted_sum(tokens_BTD, weights_BT, at.weight)
    return (total_BD / weight_B1).to(tokens_BTD.dtype)


POOLERS: dict[str, Callable[[Tensor, Places], Tensor]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _lasttoken,
}
"""Mode to function of (token embeddings, which tokens count)."""
