"""A recurrent layer over token embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from raybert.modules.checkpoint import fill, read_config, save_weights, write_config
from raybert.modules.module import Features, Module, Opening

CONFIG = "lstm_config.json"


class LSTM(Module):
    """A (bidirectional) LSTM over each text's own tokens; padding must be on the right.

    Args:
        embedding_dimension: width of the token embeddings before.
        hidden_dim: width of each direction after.
        num_layers: layers.
        dropout: between layers, in training.
        bidirectional: read backwards too.
    """

    def __init__(
        self,
        embedding_dimension: int,
        hidden_dim: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = nn.LSTM(
            embedding_dimension,
            hidden_dim,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            batch_first=True,
        )

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read `lstm_config.json`, of either generation, and the weights."""
        config = read_config(folder / CONFIG)
        width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
        names = ("hidden_dim", "num_layers", "dropout", "bidirectional")
        module = cls(width, **{name: config[name] for name in names if name in config})
        fill(module, folder, allow_pickle=opening.allow_pickle)
        return module.to(opening.dtype)

    def save(self, folder: Path) -> None:
        """Write `lstm_config.json` with the keys that every version reads, and the weights."""
        config = {
            "word_embedding_dimension": self.encoder.input_size,
            "hidden_dim": self.encoder.hidden_size,
            "num_layers": self.encoder.num_layers,
            "dropout": self.encoder.dropout,
            "bidirectional": self.encoder.bidirectional,
        }
        write_config(folder / CONFIG, config)
        save_weights(self, folder)

    def width(self, width: int = 0) -> int:
        """Return the width of both directions."""
        return self.encoder.hidden_size * (2 if self.encoder.bidirectional else 1)

    def forward(self, features: Features) -> Features:
        """Read every text from its first to its last token."""
        lengths = features["attention_mask"].sum(dim=1).clamp(min=1).cpu()
        tokens = features["token_embeddings"]
        packed = pack_padded_sequence(tokens, lengths, batch_first=True, enforce_sorted=False)
        features["token_embeddings"], _ = pad_packed_sequence(
            self.encoder(packed)[0], batch_first=True, total_length=tokens.shape[1]
        )
        return features
