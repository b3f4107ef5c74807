"""Convolutions over token embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import nn

from raybert.modules.checkpoint import fill, read_config, save_weights, write_config
from raybert.modules.module import Features, Module, Opening

CONFIG = "cnn_config.json"


class CNN(Module):
    """Convolutions with several kernel sizes, their channels concatenated.

    Args:
        in_embedding_dimension: width of the token embeddings before.
        out_channels: channels of each kernel.
        kernel_sizes: tokens that each kernel sees.
        stride_sizes: step of each kernel; None steps by one token.
    """

    def __init__(
        self,
        in_embedding_dimension: int,
        out_channels: int = 256,
        kernel_sizes: Sequence[int] = (1, 3, 5),
        stride_sizes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.in_embedding_dimension = in_embedding_dimension
        self.out_channels = out_channels
        self.kernel_sizes = list(kernel_sizes)
        self.stride_sizes = list(stride_sizes or [1] * len(self.kernel_sizes))
        self.convs = nn.ModuleList(
            nn.Conv1d(in_embedding_dimension, out_channels, size, step, padding=(size - 1) // 2)
            for size, step in zip(self.kernel_sizes, self.stride_sizes, strict=True)
        )

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read `cnn_config.json`, of either generation, and the weights."""
        config = read_config(folder / CONFIG)
        width = config.get("in_embedding_dimension", config.get("in_word_embedding_dimension"))
        names = ("out_channels", "kernel_sizes", "stride_sizes")
        module = cls(width, **{name: config[name] for name in names if name in config})
        fill(module, folder, allow_pickle=opening.allow_pickle)
        return module.to(opening.dtype)

    def save(self, folder: Path) -> None:
        """Write `cnn_config.json` with the keys that every version reads, and the weights."""
        config = {
            "in_word_embedding_dimension": self.in_embedding_dimension,
            "out_channels": self.out_channels,
            "kernel_sizes": self.kernel_sizes,
            "stride_sizes": self.stride_sizes,
        }
        write_config(folder / CONFIG, config)
        save_weights(self, folder)

    def width(self, width: int = 0) -> int:
        """Return the channels of all kernels."""
        return self.out_channels * len(self.kernel_sizes)

    def forward(self, features: Features) -> Features:
        """Convolve over tokens; padding is seen as zero, never as another text."""
        mask_BT1 = features["attention_mask"][:, :, None]
        channels = (features["token_embeddings"] * mask_BT1).transpose(1, 2)
        found = torch.cat([conv(channels) for conv in self.convs], dim=1)
        features["token_embeddings"] = found.transpose(1, 2)
        return features
