"""Static token embeddings made of a transformer: each token alone through it, then compressed.

The recipe of model2vec (Tulkens and van Dongen, 2024): the mean of the token's states between its
special tokens, principal components, then smooth inverse frequency (Arora et al., 2017) with
Zipf's law for frequencies. Shapes: V vocabulary, N tokens kept, D width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from raybert.errors import ModelError
from raybert.modules.static_embedding import StaticEmbedding
from raybert.modules.tokenization import Tokenization
from raybert.modules.transformer import Transformer
from raybert.records import TokenizedTexts

TOKENS_PER_BATCH = 4096


def distill_static(
    transformer: Transformer,
    *,
    pca_dims: int | None = 256,
    sif_coefficient: float | None = 1e-4,
    token_remove_pattern: str | None = r"\[unused\d+\]",
) -> StaticEmbedding:
    """Make static embeddings of a transformer, on its device; its vocabulary is the frequency list.

    Args:
        transformer: the teacher; it has a fast tokenizer.
        pca_dims: width of the result; None keeps the teacher's, without rotation.
        sif_coefficient: a of the weight a / (a + p); None weighs all tokens alike.
        token_remove_pattern: tokens that match get a vector of zeros; None keeps all.

    Raises:
        ModelError: the tokenizer has no fast form, or nothing of its vocabulary is left.
    """
    tokenization = transformer.tokenization
    backend = getattr(tokenization.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("static embeddings need a teacher with a fast tokenizer")
    words = sorted(backend.get_vocab().items(), key=lambda item: item[1])
    pattern = re.compile(token_remove_pattern) if token_remove_pattern else None
    kept = [place for word, place in words if not (pattern and pattern.fullmatch(word))]
    if not kept:
        raise ModelError(f"token_remove_pattern {token_remove_pattern!r} leaves no token")
    vectors_ND = states(transformer, kept)
    if pca_dims is not None:
        vectors_ND = principal_components(vectors_ND, pca_dims)
    if sif_coefficient is not None:
        vectors_ND = vectors_ND * inverse_frequency(len(kept), sif_coefficient)[:, None]
    table_VD = torch.zeros(words[-1][1] + 1, vectors_ND.shape[1])
    table_VD[kept] = vectors_ND.float()
    return StaticEmbedding(Tokenizer.from_str(backend.to_str()), table_VD)


def states(transformer: Transformer, ids: Sequence[int]) -> Tensor:
    """Return for each token alone the mean of its states, special tokens included, [N, D]."""
    tokenization = transformer.tokenization
    before, after = frame(tokenization)
    device = next(transformer.parameters()).device
    size = max(1, TOKENS_PER_BATCH // (len(before) + len(after) + 1))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(ids), size):
            rows = [[*before, place, *after] for place in ids[start : start + size]]
            found = transformer(tokenization.pad(TokenizedTexts(rows), device))
            parts.append(found["token_embeddings"].float().mean(dim=1).cpu())
    return torch.cat(parts)


def frame(tokenization: Tokenization) -> tuple[list[int], list[int]]:
    """Return the special tokens that stand before and after every text."""
    special = set(tokenization.tokenizer.all_special_ids)
    (ids,) = tokenization(["a"]).input_ids
    inner = [place for place, token in enumerate(ids) if token not in special]
    first, last = (inner[0], inner[-1]) if inner else (1, 0)
    return list(ids[:first]), list(ids[last + 1 :])


def principal_components(vectors_ND: Tensor, width: int) -> Tensor:
    """Centre the vectors and turn them onto their strongest `width` directions, [N, width]."""
    centred_ND = (vectors_ND - vectors_ND.mean(dim=0)).double()
    _, directions_DD = torch.linalg.eigh(centred_ND.T @ centred_ND)
    turned_ND: Tensor = centred_ND @ directions_DD.flip(1)[:, : min(width, vectors_ND.shape[1])]
    return turned_ND


def inverse_frequency(count: int, coefficient: float) -> Tensor:
    """Return a / (a + p) for tokens whose frequency p falls with their rank (Zipf), [N]."""
    shares_N = 1 / torch.arange(2, count + 2, dtype=torch.float64)
    return coefficient / (coefficient + shares_N / shares_N.sum())
