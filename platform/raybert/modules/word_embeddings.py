"""One fixed vector for each word, such as word2vec or GloVe.

Shapes: B batch, T words, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from raybert.errors import ModelError
from raybert.modules.checkpoint import (
    check_finite,
    read_config,
    read_weights,
    save_weights,
    write_config,
)
from raybert.modules.module import Features, Module, Opening
from raybert.modules.tokenization import Tokenization, open_tokenizer
from raybert.modules.whitespace import WhitespaceTokenizer

CONFIG = "wordembedding_config.json"
TOKENIZERS = "sentence_transformers.models.tokenizer"
NO_LIMIT = 1_000_000
"""Words: what the reference library writes for a text without limit."""


class WordEmbeddings(Module):
    """One vector for each word (word2vec, GloVe), before any pooling.

    Args:
        tokenizer: a `WhitespaceTokenizer`, or a transformers tokenizer.
        embedding_weights: a vector for each word id, [V, D].
        update_embeddings: whether training changes them.
        max_seq_length: longest text in words.
    """

    def __init__(
        self,
        tokenizer: Any,
        embedding_weights: Tensor,
        update_embeddings: bool = False,
        max_seq_length: int = NO_LIMIT,
    ) -> None:
        super().__init__()
        size, width = embedding_weights.shape
        self.emb_layer = nn.Embedding(size, width, _weight=embedding_weights)
        self.emb_layer.weight.requires_grad = update_embeddings
        self.tokenization = Tokenization(tokenizer, max_seq_length)
        self.update_embeddings = update_embeddings

    @classmethod
    def from_text_file(
        cls, path: str | Path, *, max_words: int | None = None, **options: Any
    ) -> Self:
        """Read GloVe's or word2vec's text format: a word and its numbers, one a line.

        Args:
            path: the file.
            max_words: read so many words only.
            options: as for the class.

        Raises:
            ModelError: a line has another number of values than the first, naming it.
        """
        words = ["PADDING_TOKEN"]
        rows: list[list[float]] = []
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                word, *values = line.rstrip().split(" ")
                if number == 1 and len(values) == 1:
                    continue
                rows.append(_numbers(values, rows, f"{path}, line {number}"))
                words.append(word)
                if len(rows) == max_words:
                    break
        if not rows:
            raise ModelError(f"{path}: has no word vectors")
        vectors = torch.tensor([[0.0] * len(rows[0]), *rows])
        return cls(WhitespaceTokenizer(words), vectors, **options)

    @classmethod
    def open_tokenization(cls, folder: Path, opening: Opening) -> Tokenization:
        """Read only the tokenizer."""
        config = read_config(folder / CONFIG)
        return Tokenization(_tokenizer(config, folder), config.get("max_seq_length", NO_LIMIT))

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read configuration, words and vectors."""
        config = read_config(folder / CONFIG)
        weights = read_weights(folder, allow_pickle=opening.allow_pickle)
        vectors = weights.get("emb_layer.weight")
        tokenizer = _tokenizer(config, folder)
        if vectors is None or vectors.ndim != 2 or len(vectors) < len(tokenizer):
            raise ModelError(
                f"weights of {str(folder)!r} do not fit: emb_layer.weight, "
                f"[{len(tokenizer)} words, D] is expected"
            )
        module = cls(
            tokenizer,
            vectors.to(opening.dtype),
            config.get("update_embeddings", False),
            config.get("max_seq_length", NO_LIMIT),
        )
        check_finite(module, folder)
        return module

    def save(self, folder: Path) -> None:
        """Write configuration, words and vectors."""
        whole_words = isinstance(self.tokenization.tokenizer, WhitespaceTokenizer)
        kind = "WhitespaceTokenizer" if whole_words else "TransformersTokenizerWrapper"
        config = {
            "tokenizer_class": f"{TOKENIZERS}.{kind}",
            "update_embeddings": self.update_embeddings,
            "max_seq_length": self.tokenization.max_seq_length,
        }
        write_config(folder / CONFIG, config)
        self.tokenization.tokenizer.save_pretrained(str(folder))
        save_weights(self, folder)

    def width(self, width: int = 0) -> int:
        """Return the width of the vectors."""
        return int(self.emb_layer.embedding_dim)

    def forward(self, features: Features) -> Features:
        """Look up [B, T] ids; returns [B, T, D]."""
        features["token_embeddings"] = self.emb_layer(features["input_ids"])
        return features


def _tokenizer(config: Mapping[str, Any], folder: Path) -> Any:
    """Open the tokenizer a configuration names, by its class name."""
    kind = str(config.get("tokenizer_class", "")).rsplit(".", 1)[-1]
    if kind == "WhitespaceTokenizer":
        return WhitespaceTokenizer.load(folder)
    if kind == "TransformersTokenizerWrapper":
        return open_tokenizer(folder)
    raise ModelError(
        f"{folder / CONFIG}: tokenizer_class {kind!r}: allowed are WhitespaceTokenizer, "
        "TransformersTokenizerWrapper"
    )


def _numbers(values: Sequence[str], before: Sequence[Sequence[float]], where: str) -> list[float]:
    """Read a line's numbers, as many as the line before has."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        raise ModelError(f"{where}: a word and its numbers are expected") from None
    if not numbers or (before and len(numbers) != len(before[-1])):
        expected = len(before[-1]) if before else "at least 1"
        raise ModelError(f"{where}: {len(numbers)} numbers; {expected} are expected")
    return numbers
