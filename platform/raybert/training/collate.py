"""From row numbers to one batch: tokenized columns and labels, never padded here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from raybert.encoders.tokenizing import Tokenizing
from raybert.losses import DenoisingAutoEncoderLoss, Loss, in_batch_negatives
from raybert.losses.reranking import MultipleNegativesRankingLoss
from raybert.records import TokenizedTexts
from raybert.sampling import MixedBatchSampler
from raybert.training.data import TrainingData
from raybert.training.mini_batches import Pictures

DELETED = 0.6
"""Share of a text's words that denoising leaves out, arXiv:2104.06979."""
Column = TokenizedTexts | Pictures
"""A column of a batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One worker's part of a batch.

    Args:
        rows: numbers of the rows in the data.
        columns: `Column`s: texts, or pairs of texts, tokenized, or pictures.
        labels: [N] or [N, C], where the loss takes some; token ids [N, T] for denoising.
        guide: the columns once more, tokenized for a guide model.
        part: number of the dataset, of several.
    """

    rows: list[int]
    columns: tuple[Any, ...]
    labels: Tensor | None
    guide: tuple[TokenizedTexts, ...] = ()
    part: int = 0


class Collate:
    """Makes a batch of rows: prompts before texts, columns joined where the model reads pairs.

    Args:
        data: the rows.
        tokenizing: the model's tokenizing half.
        loss: the loss the batch is for.
        prompts: column to text put before its texts; none where a column is not named.
        routes: column to route, of a model that has routes.
        guide: the guide model's tokenizing half, for a loss that has one.
        pictures: prepares the pictures of a column, for a model that reads them.
    """

    def __init__(
        self,
        data: TrainingData,
        tokenizing: Tokenizing,
        loss: Loss,
        prompts: Mapping[str, str] | None = None,
        routes: Mapping[str, str] | None = None,
        guide: Tokenizing | None = None,
        pictures: Callable[[Sequence[Any]], Pictures] | None = None,
    ) -> None:
        self.data, self.tokenizing, self.loss = data, tokenizing, loss
        self.prompts, self.routes = dict(prompts or {}), dict(routes or {})
        self.guide, self.pictures = guide, pictures

    def __call__(self, rows: Sequence[int]) -> Batch:
        """Return the batch of these rows."""
        labels = self.data.labels(rows, self.loss.labels)
        texts = [self.data.texts(column, rows) for column in self.data.columns]
        if isinstance(self.loss, DenoisingAutoEncoderLoss):
            return self._denoising(list(rows), texts)
        if self.loss.joined > 0:
            return Batch(list(rows), tuple(self._pairs(texts)), labels)
        columns = self._texts(texts) * (1 - self.loss.joined)
        guide = () if self.guide is None else tuple(map(self.guide.pre, texts))
        return Batch(list(rows), tuple(columns), labels, guide)

    def letters(self, rows: Sequence[int], at_most: float = math.inf) -> list[float]:
        """Return the letters of each row's texts, each up to `at_most`; pictures have none."""
        letters = [0.0] * len(rows)
        for name in self.data.columns:
            if name not in self.data.images:
                for place, cell in enumerate(self.data.texts(name, rows)):
                    letters[place] += _letters(cell, at_most)
        return letters

    def _texts(self, texts: Sequence[list[Any]]) -> list[Column]:
        """Tokenize column by column; pictures are prepared."""
        return [
            self._tokens(name, each)
            if self.pictures is None or name not in self.data.images
            else self.pictures(each)
            for name, each in zip(self.data.columns, texts, strict=False)
        ]

    def _tokens(self, name: str, texts: list[Any]) -> TokenizedTexts:
        """Tokenize a column's texts behind its prompt, for its route."""
        prompt = self.prompts.get(name, "")
        return self.tokenizing.pre(texts, prompt=prompt, task=self.routes.get(name))

    def _denoising(self, rows: list[int], texts: Sequence[list[Any]]) -> Batch:
        """Return damaged texts, and as labels the token ids of the clean ones."""
        damaged, clean = [damage(text) for text in texts[0]], texts[-1]
        ids = [torch.tensor(each) for each in self.tokenizing.pre(clean).input_ids]
        pad = getattr(self.loss, "pad_token_id", 0)
        labels = pad_sequence(ids, batch_first=True, padding_value=pad)
        return Batch(rows, (self._tokens(self.data.columns[0], damaged),), labels)

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


class MixedCollate:
    """Makes a batch of one of several datasets.

    Args:
        parts: what makes each dataset's batches.
        sampler: knows whose a row is.
    """

    def __init__(self, parts: Sequence[Collate], sampler: MixedBatchSampler) -> None:
        self.parts, self.sampler = list(parts), sampler

    def __call__(self, rows: Sequence[int]) -> Batch:
        """Return the batch of these rows, which are numbers of the whole."""
        part, own = self.sampler.locate(rows)
        return replace(self.parts[part](own), rows=list(rows), part=part)

    def letters(self, rows: Sequence[int], at_most: float = math.inf) -> list[float]:
        """Return the letters of each row's texts."""
        part, own = self.sampler.locate(rows)
        return self.parts[part].letters(own, at_most)


def damage(text: str) -> str:
    """Leave out 60 percent of a text's words, drawn from torch's generator; one stays."""
    words = text.split()
    kept = [
        word for word, draw in zip(words, torch.rand(len(words)), strict=True) if draw > DELETED
    ]
    if not kept and words:
        kept = [words[int(torch.randint(len(words), ()))]]
    return " ".join(kept)


def _letters(cell: Any, at_most: float) -> float:
    """Return the letters of a text, or of a list of texts."""
    if isinstance(cell, str):
        return min(len(cell), at_most)
    return sum(_letters(each, at_most) for each in cell)


def _others(documents: Sequence[list[str]], number: int | None) -> list[list[str]]:
    """Return columns of other rows' documents, as negatives of each query."""
    every = [document for column in documents for document in column]
    chosen_NK = in_batch_negatives(len(documents[0]), len(documents), number)
    return [[every[place] for place in column] for column in chosen_NK.T.tolist()]
