"""Scores of text pairs by any encoder: every distinct text is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raybert.errors import InputError
from raybert.evaluation.sparsity import SparsityCount, is_sparse
from raybert.evaluation.ties import Flags, Values
from raybert.vectors import as_vectors, pick_similarity


class TextPairs:
    """Two columns of texts, encoded; scored by any similarity.

    Args:
        encoder: the encoder.
        left: first text of each pair.
        right: second text of each pair.
        options: passed to `encode`.
    """

    def __init__(
        self, encoder: Any, left: Sequence[str], right: Sequence[str], **options: Any
    ) -> None:
        distinct = list(dict.fromkeys([*left, *right]))
        rows = {text: row for row, text in enumerate(distinct)}
        vectors = encoder.encode(distinct, **options)
        self.statistics = SparsityCount()
        self.statistics.add(vectors)
        self.left = rows_at(vectors, [rows[text] for text in left])
        self.right = rows_at(vectors, [rows[text] for text in right])

    def scores(self, similarity: str) -> Values:
        """Return the similarity of every pair."""
        return pick_similarity(similarity).pairwise(self.left, self.right).cpu().numpy()


def rows_at(vectors: Any, rows: Sequence[int]) -> Tensor:
    """Return rows of dense or sparse vectors, in the order asked, as a tensor."""
    tensor = vectors if is_sparse(vectors) else as_vectors(vectors)
    if is_sparse(tensor) and tensor.layout != torch.sparse_coo:
        tensor = tensor.to_sparse_coo()
    return torch.index_select(tensor, 0, torch.as_tensor(rows, device=tensor.device))


def truncation(truncate_dim: int | None) -> dict[str, int]:
    """Return the option that cuts vectors, if they are to be cut."""
    return {} if truncate_dim is None else {"truncate_dim": truncate_dim}


def scores_pairs(encoder: Any) -> bool:
    """Say whether an encoder reads two texts together (a cross-encoder)."""
    return "rerank" in getattr(encoder, "capabilities", frozenset())


def flags(labels: Sequence[float]) -> Flags:
    """Return 0 and 1 as flags.

    Raises:
        InputError: a label is neither.
    """
    values = np.asarray(labels)
    wrong = [label for label in labels if label not in (0, 1)]
    if wrong:
        raise InputError(f"label {wrong[0]!r}: 0 and 1 are allowed")
    return np.asarray(values == 1)
