"""Retrieval: how well an encoder finds the relevant documents of a corpus for queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from raybert.errors import InputError
from raybert.evaluation.evaluator import Embedder, Evaluator, similarities_of, text_chunks
from raybert.evaluation.metrics import (
    Cutoffs,
    Metrics,
    Qrels,
    judge_rankings,
    measure,
)
from raybert.evaluation.sparsity import query_corpus_statistics
from raybert.records import Hit, Ranking
from raybert.vectors import TopK, exact_topk
from raybert.vectors.topk import MISSING

Relevance = Mapping[str, Set[str]] | Qrels


class InformationRetrievalEvaluator(Evaluator):
    """Ranks a corpus for queries and measures accuracy, precision, recall, nDCG, MRR and MAP at k.

    The corpus is encoded in chunks and every chunk's best are merged, so memory holds one chunk of
    vectors. Ties are broken by id, and chunks change no result. Queries without any relevant
    document are left out; a document with the query's own id is not skipped. A sparse encoder
    adds its active dimensions and the mean number of products a score costs (`avg_flops`).

    Args:
        queries: text by query id.
        corpus: text by document id.
        relevant_docs: the relevant ids of each query, or their relevance (graded nDCG).
        cutoffs: at which k each metric is taken.
        similarity_fn_names: similarities to rank by; the encoder's own if None.
        corpus_chunk_size: documents encoded at once.
        truncate_dim: dimensions kept; the encoder's own if None.
        show_progress_bar: show how many batches are encoded.
        name: put before each metric's name.
    """

    def __init__(
        self,
        queries: Mapping[str, str],
        corpus: Mapping[str, str],
        relevant_docs: Relevance,
        *,
        cutoffs: Cutoffs | None = None,
        similarity_fn_names: Sequence[str] | None = None,
        corpus_chunk_size: int = 50_000,
        truncate_dim: int | None = None,
        show_progress_bar: bool = False,
        name: str = "",
    ) -> None:
        super().__init__(name)
        self._qrels = _relevant(relevant_docs, corpus)
        self._query_ids = [query for query in queries if self._qrels.get(query)]
        if not self._query_ids:
            raise InputError("no query has a relevant document: there is nothing to measure")
        self._queries = [queries[query] for query in self._query_ids]
        self._ids = sorted(corpus)
        self._texts = [corpus[identifier] for identifier in self._ids]
        self.cutoffs = cutoffs or Cutoffs()
        self._similarities = similarity_fn_names
        self._chunk = corpus_chunk_size
        self._options: dict[str, Any] = {"show_progress_bar": True} if show_progress_bar else {}
        if truncate_dim is not None:
            self._options["truncate_dim"] = truncate_dim

    def __call__(self, encoder: Embedder) -> Metrics:
        """Return every metric, named `{similarity}_ndcg@10`."""
        metrics: Metrics = {}
        best: dict[str, float] = {}
        rankings, statistics = self._ranked(encoder)
        for similarity, ranked in rankings.items():
            measured = self.judged(ranked)
            metrics |= {f"{similarity}_{name}": value for name, value in measured.items()}
            best[similarity] = measured[f"ndcg@{max(self.cutoffs.ndcg)}"]
        top = max(best, key=lambda similarity: best[similarity])
        self.primary_metric = self.named(f"{top}_ndcg@{max(self.cutoffs.ndcg)}")
        return self.prefixed(metrics | statistics)

    def rankings(self, encoder: Embedder) -> dict[str, list[Ranking]]:
        """Return each similarity's ranking of every query."""
        return self._ranked(encoder)[0]

    def judged(self, rankings: Sequence[Ranking]) -> Metrics:
        """Return the metrics of rankings, however they came about."""
        qrels = {query: self._qrels[query] for query in self._query_ids}
        return measure(list(judge_rankings(rankings, qrels).values()), self.cutoffs)

    def _ranked(self, encoder: Embedder) -> tuple[dict[str, list[Ranking]], Metrics]:
        names = similarities_of(encoder, self._similarities)
        queries = encoder.encode_query(self._queries, **self._options)
        depth = min(self.cutoffs.deepest, len(self._ids))
        found = {name: TopK.empty(len(self._queries), depth) for name in names}
        statistics = query_corpus_statistics(queries)
        for start, texts in text_chunks(self._texts, self._chunk):
            block = encoder.encode_document(texts, **self._options)
            statistics.add(block)
            orders = np.arange(start, start + len(texts), dtype=np.int64)
            for name in names:
                part = exact_topk(queries, [(block, orders)], depth, similarity=name)
                found[name] = found[name].merge(part)
        return {name: self._rankings(lists) for name, lists in found.items()}, statistics.metrics()

    def _rankings(self, lists: TopK) -> list[Ranking]:
        return [
            Ranking(query, tuple(_hits(self._ids, scores, orders)))
            for query, scores, orders in zip(
                self._query_ids, lists.scores, lists.orders, strict=True
            )
        ]


def _hits(ids: Sequence[str], scores: Any, orders: Any) -> list[Hit]:
    return [
        Hit(ids[order], float(score))
        for score, order in zip(scores, orders, strict=True)
        if order != MISSING
    ]


def _relevant(relevant: Relevance, corpus: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Bring relevance to graded form; a document missing from the corpus counts as missed."""
    if not corpus:
        raise InputError("the corpus is empty: there is nothing to retrieve")
    graded: dict[str, dict[str, float]] = {}
    for query, documents in relevant.items():
        grades = documents if isinstance(documents, Mapping) else dict.fromkeys(documents, 1.0)
        positive = {document: float(grade) for document, grade in grades.items() if grade > 0}
        if positive:
            graded[query] = positive
    return graded
