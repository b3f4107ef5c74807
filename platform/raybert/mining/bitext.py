"""Bitext: sentences and their translations, found in two heaps by margin scores.

A pair's cosine is held against the mean cosine of both sentences to their nearest neighbours
(Artetxe and Schwenk 2019, arXiv:1811.01136), so that a sentence that is near to everything does
not win everywhere. Shapes: S source sentences, T target sentences, K neighbours, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError
from raybert.mining.positives import Rows
from raybert.vectors.nearest import nearest, prepared
from raybert.vectors.topk import MISSING, TopK

Margin = Literal["ratio", "distance", "absolute"]
Retrieval = Literal["forward", "backward", "intersection", "max"]
Floats = npt.NDArray[np.float64]


class Bitext(NamedTuple):
    """Pairs, best first: `scores`, `sources` and `targets`, all [P]."""

    scores: Floats
    sources: Rows
    targets: Rows

    def above(self, threshold: float) -> Bitext:
        """Return the pairs that score at least the threshold."""
        kept = self.scores >= threshold
        return Bitext(self.scores[kept], self.sources[kept], self.targets[kept])


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Nearest neighbours both ways: `forward` [S, K] of sources, `backward` [T, K] of targets."""

    forward: TopK
    backward: TopK


def mine_bitext(
    sources: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    *,
    neighbours: int = 4,
    margin: Margin = "ratio",
    retrieval: Retrieval = "max",
    threshold: float | None = None,
) -> Bitext:
    """Find translations, one to one.

    Args:
        sources: [S, D].
        targets: [T, D], of the same model.
        neighbours: K, neighbours each way that give the mean and the candidates.
        margin: `ratio` cos / mean, `distance` cos - mean, `absolute` cos alone.
        retrieval: candidates: `forward` the best target of each source, `backward` the best source
            of each target, `intersection` those that both ways name, `max` either way; the best
            first, each sentence once.
        threshold: the least score of a pair; all if None.

    Raises:
        InputError: an empty side, two widths, NaN values, an unknown margin or retrieval.
    """
    for name, given, allowed in (
        ("margin", margin, get_args(Margin)),
        ("retrieval", retrieval, get_args(Retrieval)),
    ):
        if given not in allowed:
            raise InputError(f"{name} {given!r}: allowed are {', '.join(allowed)}")
    for name, side in (("sources", sources), ("targets", targets)):
        if not len(side):
            raise InputError(f"bitext needs sentences on both sides: {name} has none")
    left, right = prepared(sources, "cosine", "sources"), prepared(targets, "cosine", "targets")
    found = Neighbours(nearest(left, right, neighbours), nearest(right, left, neighbours))
    pairs = choose_bitext(found, margin, retrieval)
    return pairs if threshold is None else pairs.above(threshold)


def choose_bitext(
    found: Neighbours, margin: Margin = "ratio", retrieval: Retrieval = "max"
) -> Bitext:
    """Choose translations among neighbours that are known both ways; arguments as `mine_bitext`."""
    forward, backward = margin_scores(found, margin)
    best_forward = _best(forward, found.forward.orders)
    scores, targets = best_forward
    sources = np.arange(len(targets), dtype=np.int64)
    back_scores, back_sources = _best(backward, found.backward.orders)
    back_targets = np.arange(len(back_sources), dtype=np.int64)
    if retrieval == "intersection":
        agreed = back_sources[targets] == sources
        return _one_to_one(scores[agreed], sources[agreed], targets[agreed])
    if retrieval == "forward":
        return _one_to_one(scores, sources, targets)
    if retrieval == "backward":
        return _one_to_one(back_scores, back_sources, back_targets)
    return _one_to_one(
        np.concatenate([scores, back_scores]),
        np.concatenate([sources, back_sources]),
        np.concatenate([targets, back_targets]),
    )


def margin_scores(found: Neighbours, margin: Margin) -> tuple[Floats, Floats]:
    """Return the margin scores of all neighbours, [S, K] and [T, K]; -inf where there is none."""
    means = _mean(found.forward), _mean(found.backward)
    return (
        _scored(found.forward, means[0], means[1], margin),
        _scored(found.backward, means[1], means[0], margin),
    )


def best_threshold(pairs: Bitext, gold: set[tuple[int, int]]) -> tuple[float, float, float, float]:
    """Return the threshold of the best F1 against known translations, as BUCC judges.

    The threshold lies midway between the last pair that passes and the next.

    Args:
        pairs: best first.
        gold: true pairs (source, target).

    Returns:
        threshold, F1, precision and recall; zeros where no pair is true.
    """
    numbers = zip(pairs.sources.tolist(), pairs.targets.tolist(), strict=True)
    correct = np.cumsum([pair in gold for pair in numbers])
    if not len(correct) or not correct[-1]:
        return 0.0, 0.0, 0.0, 0.0
    ends = np.flatnonzero(np.append(pairs.scores[1:] != pairs.scores[:-1], True))
    f1 = 2 * correct[ends] / (ends + 1 + len(gold))
    best = int(f1.argmax())
    last = int(ends[best])
    after = min(last + 1, len(correct) - 1)
    threshold = float((pairs.scores[last] + pairs.scores[after]) / 2)
    found = float(correct[last])
    return threshold, float(f1[best]), found / (last + 1), found / len(gold)


def _mean(found: TopK) -> Floats:
    """Return the mean cosine of each sentence to its neighbours."""
    there = found.orders != MISSING
    total = np.where(there, found.scores.astype(np.float64), 0).sum(axis=1)
    return np.asarray(total / np.maximum(there.sum(axis=1), 1))


def _scored(found: TopK, own: Floats, others: Floats, margin: Margin) -> Floats:
    there = found.orders != MISSING
    cosines = np.where(there, found.scores.astype(np.float64), -np.inf)
    if margin == "absolute":
        return cosines
    means = (own[:, None] + others[np.where(there, found.orders, 0)]) / 2
    if margin == "distance":
        return np.asarray(cosines - means)
    # a mean of zero or less says nothing: such neighbours are kept last, by their cosine
    return np.where(means > 0, cosines / np.where(means > 0, means, 1), np.minimum(cosines, 0))


def _best(scores: Floats, orders: Rows) -> tuple[Floats, Rows]:
    """Return the best neighbour of each sentence, the first among equals."""
    place = scores.argmax(axis=1)
    rows = np.arange(len(scores))
    return scores[rows, place], orders[rows, place]


def _one_to_one(scores: Floats, sources: Rows, targets: Rows) -> Bitext:
    """Take pairs from the best down, each sentence once; equal scores by (source, target)."""
    order = np.lexsort((targets, sources, -scores))
    used_sources: set[int] = set()
    used_targets: set[int] = set()
    kept: list[int] = []
    for at, source, target in zip(
        order.tolist(), sources[order].tolist(), targets[order].tolist(), strict=True
    ):
        if source not in used_sources and target not in used_targets:
            used_sources.add(source)
            used_targets.add(target)
            kept.append(at)
    return Bitext(scores[kept], sources[kept], targets[kept])
