"""From row numbers to one batch: tokenized columns and labels, never padded here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from raybert.encoders.tokenizing import Tokenizing
from raybert.losses import Loss, in_batch_negatives
from raybert.losses.reranking import MultipleNegativesRankingLoss
from raybert.records import TokenizedTexts
from raybert.training.data import TrainingData


@dataclass(frozen=True, slots=True)
class Batch:
    """One worker's part of a batch.

    Args:
        rows: numbers of the rows in the data.
        columns: a column's texts, or pairs of texts, tokenized.
        labels: [N] or [N, C], where the loss takes some.
    """

    rows: list[int]
    columns: tuple[TokenizedTexts, ...]
    labels: Tensor | None


class Collate:
    """Makes a batch of rows: prompts before texts, columns joined where the model reads pairs.

    Args:
        data: the rows.
        tokenizing: the model's tokenizing half.
        loss: the loss the batch is for.
        prompts: column to text put before its texts; none where a column is not named.
    """

    def __init__(
        self,
        data: TrainingData,
        tokenizing: Tokenizing,
        loss: Loss,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        self.data, self.tokenizing, self.loss = data, tokenizing, loss
        self.prompts = dict(prompts or {})

    def __call__(self, rows: Sequence[int]) -> Batch:
        """Return the batch of these rows."""
        labels = self.data.labels(rows, self.loss.labels)
        texts = [self.data.texts(column, rows) for column in self.data.columns]
        make = self._pairs if self.loss.joined else self._texts
        return Batch(list(rows), tuple(make(texts)), labels)

    def _texts(self, texts: Sequence[list[Any]]) -> list[TokenizedTexts]:
        """Tokenize column by column."""
        return [
            self.tokenizing.pre(column, prompt=self.prompts.get(name, ""))
            for name, column in zip(self.data.columns, texts, strict=True)
        ]

    def _pairs(self, texts: Sequence[list[Any]]) -> list[TokenizedTexts]:
        """Tokenize the first column together with each other one."""
        queries, documents = texts[0], list(texts[1:])
        if isinstance(documents[0][0], list):
            lists = documents[0]
            queries = [query for query, each in zip(queries, lists, strict=True) for _ in each]
            documents = [[document for each in lists for document in each]]
        if isinstance(self.loss, MultipleNegativesRankingLoss):
            documents += _others(documents, self.loss.num_negatives)
        prompt = self.prompts.get(self.data.columns[0], "")
        return [
            self.tokenizing.pre(list(zip(queries, column, strict=True)), prompt=prompt)
            for column in documents
        ]


def _others(documents: Sequence[list[str]], number: int | None) -> list[list[str]]:
    """Return columns of other rows' documents, as negatives of each query."""
    every = [document for column in documents for document in column]
    chosen_NK = in_batch_negatives(len(documents[0]), len(documents), number)
    return [[every[place] for place in column] for column in chosen_NK.T.tolist()]
