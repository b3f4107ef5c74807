"""Static token embeddings: the mean of one fixed vector a token, no transformer at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from raybert.errors import ModelError
from raybert.modules.checkpoint import check_finite, first_line, read_weights, save_weights
from raybert.modules.module import Features, Module, Opening
from raybert.modules.tokenization import Tokenization

TOKENIZER = "tokenizer.json"


class StaticEmbedding(Module):
    """Average the vectors of a text's tokens; a text without tokens becomes zero.

    Texts get no special tokens and are not cut, unless the tokenizer's own file says so. Reads
    model2vec folders too.

    Args:
        tokenizer: a fast tokenizer.
        embedding_weights: one vector for each token id, [V, D].
    """

    in_root: ClassVar[bool] = True

    def __init__(self, tokenizer: Tokenizer, embedding_weights: Tensor) -> None:
        super().__init__()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.tokenization = static_tokenization(tokenizer)
        self.embedding = nn.EmbeddingBag.from_pretrained(embedding_weights, freeze=False)

    @classmethod
    def open_tokenization(cls, folder: Path, opening: Opening) -> Tokenization:
        """Read only the tokenizer."""
        return static_tokenization(_open_tokenizer(folder))

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read tokenizer and vectors, of Sentence Transformers or of model2vec."""
        weights = read_weights(folder, allow_pickle=opening.allow_pickle)
        vectors = weights.get("embedding.weight")
        if vectors is None:
            vectors = _folded(weights, folder)
        module = cls(_open_tokenizer(folder), vectors.to(opening.dtype))
        check_finite(module, folder)
        return module

    def save(self, folder: Path) -> None:
        """Write tokenizer and vectors."""
        self.tokenizer.save(str(folder / TOKENIZER))
        save_weights(self, folder)

    def width(self, width: int = 0) -> int:
        """Return the width of the vectors."""
        return self.embedding.embedding_dim

    def forward(self, features: Features) -> Features:
        """Average [B, T] ids to [B, D]; padding does not count."""
        mask_BT: Tensor = features["attention_mask"].bool()
        counts_B = mask_BT.sum(dim=1)
        offsets_B = counts_B.cumsum(0) - counts_B
        features["sentence_embedding"] = self.embedding(features["input_ids"][mask_BT], offsets_B)
        return features


def static_tokenization(tokenizer: Tokenizer) -> Tokenization:
    """Wrap a bare tokenizer: no special tokens, cut only where its file says so."""
    from transformers import PreTrainedTokenizerFast

    limit = (tokenizer.truncation or {}).get("max_length")
    return Tokenization(
        PreTrainedTokenizerFast(tokenizer_object=tokenizer), limit, special_tokens=False
    )


def _open_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json`."""
    path = folder / TOKENIZER
    if not path.exists():
        raise ModelError(f"model folder {str(folder)!r}: has no tokenizer ({TOKENIZER})")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 tokenizers raises the bare class
        raise ModelError(f"tokenizer {str(path)!r} cannot be read: {first_line(error)}") from None


def _folded(weights: dict[str, Any], folder: Path) -> Tensor:
    """Fold model2vec's vectors, mapping and weights into one vector for each token id."""
    if "embeddings" not in weights:
        raise ModelError(f"weights of {str(folder)!r}: embedding.weight is missing")
    vectors: Tensor = weights["embeddings"]
    if "mapping" in weights:
        vectors = vectors[weights["mapping"].long()]
    if "weights" in weights:
        wide = torch.promote_types(vectors.dtype, torch.float32)
        vectors = (vectors.to(wide) * weights["weights"][:, None]).to(wide)
    return vectors.contiguous()
