"""Reranking: are the relevant documents of a query put before the others?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raybert.errors import InputError
from raybert.evaluation.evaluator import Evaluator, similarities_of
from raybert.evaluation.metrics import Metrics
from raybert.evaluation.pairs import rows_at, scores_pairs, truncation
from raybert.evaluation.sparsity import SparsityCount
from raybert.evaluation.ties import (
    Flags,
    Values,
    tied_average_precision,
    tied_ndcg,
    tied_reciprocal_rank,
)
from raybert.vectors import pick_similarity


@dataclass(frozen=True, slots=True)
class Sample:
    """One query with documents to order.

    Args:
        query: the query.
        documents: what is ordered.
        relevant: which of them are relevant.
        base: relevance in the order they came in, where they came in an order.
    """

    query: str
    documents: tuple[str, ...]
    relevant: tuple[bool, ...]
    base: tuple[bool, ...] | None


class RerankingEvaluator(Evaluator):
    """MAP, MRR@k and nDCG@k of ordering each query's documents, by any kind of encoder.

    Args:
        samples: mappings with `query`, `positive` (a text or several) and either `negative`
            (several texts) or `documents` (texts in the order a first stage gave them). With
            `documents` the metrics of that order are given too, as `base_map` and so on. Samples
            with `negative` are left out where one side is empty.
        at_k: k of MRR and nDCG.
        always_rerank_positives: put positives that a first stage did not find among the documents
            to order; else they are lost, as they would be.
        similarity_fn_name: similarity to order by; the encoder's own if None.
        truncate_dim: dimensions kept; the encoder's own if None.
        name: put before each metric's name.

    Raises:
        InputError: a sample lacks a key or has both, or no sample is left.
    """

    def __init__(
        self,
        samples: Iterable[Mapping[str, Any]],
        *,
        at_k: int = 10,
        always_rerank_positives: bool = True,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        read = [_sample(one, always_rerank_positives) for one in samples]
        self._samples = [sample for sample in read if sample is not None]
        if not self._samples:
            raise InputError("no sample has both relevant and other documents to order")
        self._at_k = at_k
        self._similarity = similarity_fn_name
        self._options = truncation(truncate_dim)
        self.primary_metric = self.named(f"ndcg@{at_k}")

    def __call__(self, encoder: Any) -> Metrics:
        """Return the metrics, and those of the first stage where it is known."""
        statistics: Metrics = {}
        if scores_pairs(encoder):
            scores = self._scores_of_pairs(encoder)
        else:
            scores, statistics = self._scores_of_vectors(encoder)
        metrics = self._mean(
            [(sample.relevant, found) for sample, found in zip(self._samples, scores, strict=True)]
        )
        base = [sample.base for sample in self._samples if sample.base is not None]
        if base:
            falling = [(flags, np.arange(len(flags), 0, -1.0)) for flags in base]
            metrics |= {f"base_{key}": value for key, value in self._mean(falling).items()}
        return self.prefixed(metrics | statistics)

    def _mean(self, ordered: Sequence[tuple[tuple[bool, ...], Values]]) -> Metrics:
        measured = [rank_metrics(np.array(flags), scores, self._at_k) for flags, scores in ordered]
        return {key: float(np.mean([one[key] for one in measured])) for key in measured[0]}

    def _scores_of_pairs(self, encoder: Any) -> list[Values]:
        pairs = [(sample.query, text) for sample in self._samples for text in sample.documents]
        scores = np.asarray(encoder.predict(pairs))
        cuts = np.cumsum([len(sample.documents) for sample in self._samples])[:-1]
        return np.split(scores, cuts)

    def _scores_of_vectors(self, encoder: Any) -> tuple[list[Values], Metrics]:
        """Encode every distinct text once and score each sample on its own."""
        (similarity,) = similarities_of(encoder, self._similarity and [self._similarity])
        queries = list(dict.fromkeys(sample.query for sample in self._samples))
        texts = list(dict.fromkeys(text for s in self._samples for text in s.documents))
        query_rows = {text: row for row, text in enumerate(queries)}
        text_rows = {text: row for row, text in enumerate(texts)}
        query_vectors = encoder.encode_query(queries, **self._options)
        text_vectors = encoder.encode_document(texts, **self._options)
        matrix = pick_similarity(similarity).matrix
        scores = [
            matrix(
                rows_at(query_vectors, [query_rows[sample.query]]),
                rows_at(text_vectors, [text_rows[text] for text in sample.documents]),
            )[0]
            .cpu()
            .numpy()
            for sample in self._samples
        ]
        statistics = SparsityCount()
        statistics.add(query_vectors)
        statistics.add(text_vectors)
        return scores, statistics.metrics()


def rank_metrics(relevant: Flags, scores: Values, k: int) -> Metrics:
    """Return `map`, `mrr@k` and `ndcg@k` of one scored list; nobody gains by a tie."""
    return {
        "map": tied_average_precision(relevant, scores),
        f"mrr@{k}": tied_reciprocal_rank(relevant, scores, k),
        f"ndcg@{k}": tied_ndcg(relevant, scores, k),
    }


def in_order(found: Sequence[str], positive: Sequence[str]) -> tuple[bool, ...]:
    """Return the relevance of a ranking; positives it lacks stand after it, if it has any."""
    flags = [text in positive for text in found]
    return (*flags, *([True] * (len(positive) - sum(flags) if any(flags) else 0)))


def as_texts(value: Any) -> list[str]:
    """Return one text or several as a list."""
    return [value] if isinstance(value, str) else list(value)


def _sample(given: Mapping[str, Any], always_rerank_positives: bool) -> Sample | None:
    for key in ("query", "positive"):
        if key not in given:
            raise InputError(f"a reranking sample needs {key!r}; this one has {', '.join(given)}")
    if ("negative" in given) == ("documents" in given):
        raise InputError("a reranking sample needs either 'negative' or 'documents'")
    query, positive = str(given["query"]), as_texts(given["positive"])
    if "negative" in given:
        negative = as_texts(given["negative"])
        if not positive or not negative:
            return None
        flags = (True,) * len(positive) + (False,) * len(negative)
        return Sample(query, (*positive, *negative), flags, None)
    first_stage = as_texts(given["documents"])
    base = in_order(first_stage, positive)
    if always_rerank_positives:
        rest = [text for text in first_stage if text not in positive]
        flags = (True,) * len(positive) + (False,) * len(rest)
        return Sample(query, (*positive, *rest), flags, base)
    return Sample(query, tuple(first_stage), tuple(t in positive for t in first_stage), base)
