"""Paraphrase mining: are the pairs that an encoder puts first true paraphrases?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np

from raybert.errors import InputError
from raybert.evaluation.evaluator import Embedder, Evaluator
from raybert.evaluation.metrics import Metrics
from raybert.evaluation.pairs import truncation
from raybert.vectors import TopPairs, top_pairs


class ParaphraseMiningEvaluator(Evaluator):
    """Average precision of mined pairs, and F1, precision and recall at the best threshold.

    Pairs of equal score are judged together, so their order is no matter.

    Args:
        sentences_map: text by id.
        duplicates_list: pairs of ids that are paraphrases; pairs with unknown ids are left out.
        add_transitive_closure: texts linked through others are paraphrases too.
        max_pairs: pairs to mine.
        top_k: neighbours of a text that may form pairs.
        truncate_dim: dimensions kept; the encoder's own if None.
        name: put before each metric's name.

    Raises:
        InputError: fewer than two texts.
    """

    primary = "average_precision"

    def __init__(
        self,
        sentences_map: Mapping[str, str],
        duplicates_list: Iterable[tuple[str, str]],
        *,
        add_transitive_closure: bool = False,
        max_pairs: int = 500_000,
        top_k: int = 100,
        truncate_dim: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        if len(sentences_map) < 2:
            raise InputError("paraphrase mining needs at least two texts")
        rows = {identifier: row for row, identifier in enumerate(sentences_map)}
        known = {
            (min(rows[a], rows[b]), max(rows[a], rows[b]))
            for a, b in duplicates_list
            if a in rows and b in rows and a != b
        }
        self._duplicates = _closed(known) if add_transitive_closure else known
        self._texts = list(sentences_map.values())
        self._max_pairs, self._top_k = max_pairs, top_k
        self._options = truncation(truncate_dim)

    def __call__(self, encoder: Embedder) -> Metrics:
        """Return the metrics."""
        vectors = encoder.encode(self._texts, **self._options)
        top_k = min(self._top_k, len(self._texts) - 1)
        mined = top_pairs(vectors, top_k=top_k, max_pairs=self._max_pairs)
        return self.prefixed(mined_metrics(mined, self._duplicates))


def mined_metrics(mined: TopPairs, duplicates: set[tuple[int, int]]) -> Metrics:
    """Judge mined pairs, best first, by the pairs of rows that are paraphrases."""
    names = ("average_precision", "f1", "precision", "recall", "threshold")
    pairs = zip(mined.left.tolist(), mined.right.tolist(), strict=True)
    correct = np.cumsum([pair in duplicates for pair in pairs])
    total = len(duplicates)
    if not total or not len(correct) or not correct[-1]:
        return dict.fromkeys(names, 0.0)
    ends = np.flatnonzero(np.append(mined.scores[1:] != mined.scores[:-1], True))
    found, taken = correct[ends], ends + 1
    precision, recall = found / taken, found / total
    f1 = 2 * found / (taken + total)
    best = int(f1.argmax())
    after = min(int(ends[best]) + 1, len(mined.scores) - 1)
    threshold = (mined.scores[ends[best]] + mined.scores[after]) / 2
    average = float((precision * np.diff(found, prepend=0)).sum()) / total
    values = (average, f1[best], precision[best], recall[best], threshold)
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _closed(pairs: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return every pair within each connected group."""
    group_of: dict[int, set[int]] = {}
    for left, right in pairs:
        group = group_of.get(left, {left}) | group_of.get(right, {right})
        for row in group:
            group_of[row] = group
    return {pair for group in group_of.values() for pair in combinations(sorted(group), 2)}
