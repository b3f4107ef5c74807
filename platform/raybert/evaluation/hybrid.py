"""Hybrid retrieval: what joining a dense and a sparse ranking gains over each alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from raybert.errors import InputError
from raybert.evaluation.evaluator import Evaluator
from raybert.evaluation.metrics import Metrics
from raybert.evaluation.reranking import as_texts, in_order, rank_metrics
from raybert.fusion import RRF_K, reciprocal_rank
from raybert.records import Hit


class ReciprocalRankFusionEvaluator(Evaluator):
    """MAP, MRR@k and nDCG@k of dense, of sparse, and of both joined by reciprocal rank.

    Both legs' metrics are prefixed `dense_` and `sparse_`, those of the joined ranking are not.
    Documents of equal joined score are ordered by their text.

    Args:
        dense_samples: mappings with `query_id`, `query`, `positive` (a text or several) and
            `documents`, best first.
        sparse_samples: the same queries, ranked by the other leg, in any order.
        at_k: k of MRR and nDCG.
        rrf_k: rank constant.
        name: put before each metric's name.

    Raises:
        InputError: the legs are of different queries, or there are none.
    """

    def __init__(
        self,
        dense_samples: Iterable[Mapping[str, Any]],
        sparse_samples: Iterable[Mapping[str, Any]],
        *,
        at_k: int = 10,
        rrf_k: float = RRF_K,
        name: str = "",
    ) -> None:
        super().__init__(name)
        dense = {str(sample["query_id"]): sample for sample in dense_samples}
        sparse = {str(sample["query_id"]): sample for sample in sparse_samples}
        if dense.keys() != sparse.keys() or not dense:
            odd = sorted(dense.keys() ^ sparse.keys())[:1]
            raise InputError(f"both legs must rank the same queries, at least one; not so: {odd}")
        self._samples = [(sample, sparse[query]) for query, sample in dense.items()]
        self._at_k, self._rrf_k = at_k, rrf_k
        self.primary_metric = self.named(f"ndcg@{at_k}")

    def __call__(self, encoder: Any = None) -> Metrics:
        """Return the metrics; no encoder is needed, both rankings are there."""
        rankings: dict[str, list[tuple[bool, ...]]] = {"dense_": [], "sparse_": [], "": []}
        for dense, sparse in self._samples:
            positive = as_texts(dense["positive"])
            legs = {
                "dense_": as_texts(dense["documents"]),
                "sparse_": as_texts(sparse["documents"]),
            }
            fused = reciprocal_rank(
                {leg: [Hit(text, 0.0) for text in texts] for leg, texts in legs.items()},
                k=self._rrf_k,
            )
            for leg, texts in {**legs, "": [hit.id for hit in fused]}.items():
                rankings[leg].append(in_order(texts, positive))
        metrics: Metrics = {}
        for leg, ordered in rankings.items():
            metrics |= {f"{leg}{key}": value for key, value in self._mean(ordered).items()}
        return self.prefixed(metrics)

    def _mean(self, ordered: Sequence[tuple[bool, ...]]) -> Metrics:
        measured = [
            rank_metrics(
                np.array(flags, dtype=np.bool_), np.arange(len(flags), 0, -1.0), self._at_k
            )
            for flags in ordered
        ]
        return {key: float(np.mean([one[key] for one in measured])) for key in measured[0]}
