"""Distillation: how far a student's vectors are from its teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from raybert.errors import InputError
from raybert.evaluation.evaluator import Embedder, Evaluator, same_length
from raybert.evaluation.metrics import Metrics
from raybert.evaluation.pairs import truncation
from raybert.evaluation.sparsity import SparsityCount


class MSEEvaluator(Evaluator):
    """Mean squared error of student against teacher, times -100 so that higher is better.

    The teacher reads the source sentences (once, when the evaluator is made), the student the
    target sentences: the same texts, or their translations.

    Args:
        source_sentences: what the teacher reads.
        target_sentences: what the student reads.
        teacher_model: the teacher.
        truncate_dim: dimensions kept, of both.
        name: put before the metric's name.
    """

    primary = "negative_mse"

    def __init__(
        self,
        source_sentences: Sequence[str],
        target_sentences: Sequence[str],
        teacher_model: Embedder,
        *,
        truncate_dim: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        same_length(source_sentences=source_sentences, target_sentences=target_sentences)
        self._targets = list(target_sentences)
        self._options = truncation(truncate_dim)
        taught = teacher_model.encode(list(source_sentences), **self._options)
        self._taught = _dense(taught)

    def __call__(self, encoder: Embedder) -> Metrics:
        """Return `negative_mse`.

        Raises:
            InputError: the student's vectors are of another width than the teacher's.
        """
        vectors = encoder.encode(self._targets, **self._options)
        learned = _dense(vectors)
        if learned.shape != self._taught.shape:
            raise InputError(
                f"student vectors are {learned.shape[1]} wide, "
                f"the teacher's {self._taught.shape[1]}"
            )
        statistics = SparsityCount()
        statistics.add(vectors)
        error = float(((learned - self._taught) ** 2).mean())
        return self.prefixed({"negative_mse": -100 * error} | statistics.metrics())


def _dense(vectors: Any) -> torch.Tensor:
    tensor = torch.as_tensor(vectors)
    dense = tensor.to_dense() if tensor.layout != torch.strided else tensor
    return dense.float().cpu()
