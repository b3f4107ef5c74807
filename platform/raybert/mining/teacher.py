"""The teacher: a cross-encoder that scores candidates in large batches, and so may veto them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError
from raybert.mining.positives import Positives, Rows
from raybert.vectors.topk import MISSING, Scores, TopK

Teacher: TypeAlias = Callable[[Rows, Rows], npt.NDArray[Any]]
"""Scores pairs: query rows [M] and corpus rows [M] in, scores [M] out."""


def text_teacher(
    predict: Callable[[list[tuple[str, str]]], Any],
    anchors: Sequence[str],
    corpus: Sequence[str],
    *,
    pairs_at_once: int = 65_536,
) -> Teacher:
    """Make a teacher of a cross-encoder's `predict`, which is given many pairs at once.

    Args:
        predict: list of (anchor, text) in, scores out.
        anchors: texts of the queries, by row.
        corpus: texts of the corpus, by row.
        pairs_at_once: pairs in one call; what is held in memory as text.
    """

    def score(queries: Rows, rows: Rows) -> npt.NDArray[Any]:
        pairs = zip(queries.tolist(), rows.tolist(), strict=True)
        scores: list[npt.NDArray[Any]] = []
        while chunk := list(islice(pairs, pairs_at_once)):
            texts = [(anchors[query], corpus[row]) for query, row in chunk]
            scores.append(np.asarray(predict(texts), dtype=np.float32).reshape(len(chunk)))
        return np.concatenate(scores) if scores else np.empty(0, np.float32)

    return score


def taught(
    teacher: Teacher, found: TopK, positives: Positives, first: int
) -> tuple[Scores, Scores]:
    """Return the teacher's scores of the candidates, [Q, C], and of the positives, [P]."""
    scores = np.full(found.scores.shape, -np.inf, np.float32)
    queries, places = np.nonzero(found.orders != MISSING)
    own = positives.queries
    asked = np.concatenate([queries, own]) + first
    answers = np.asarray(
        teacher(asked, np.concatenate([found.orders[queries, places], positives.rows])), np.float32
    )
    if answers.shape != asked.shape or np.isnan(answers).any():
        raise InputError(
            f"the teacher must give one number a pair: {answers.shape} for {asked.shape}"
        )
    scores[queries, places] = answers[: len(queries)]
    return scores, answers[len(queries) :]
