"""Hard negatives: rows of the corpus that are near a query and yet not its answer.

A step over vectors: it knows neither model nor files. Shapes: Q queries, P positives of all
queries, C candidates a query, n negatives a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError
from raybert.mining.draw import drawn_places
from raybert.mining.positives import Positives, Rows
from raybert.mining.retrievers import Retrieved, merge_retrieved
from raybert.mining.rules import NegativeRules
from raybert.mining.teacher import Teacher, taught
from raybert.vectors.nearest import nearest, pair_scores, prepared
from raybert.vectors.topk import MISSING, Scores, TopK

_QUERIES_AT_ONCE = 32768


DENSE = "dense"
"""The retriever that compares vectors; it is there always."""


@dataclass(frozen=True, slots=True)
class Negatives:
    """What was mined, best first; `MISSING` and -inf fill places that stay empty.

    Args:
        rows: [Q, n] rows of the corpus.
        scores: [Q, n] by the teacher where there was one, else by the retriever.
        ranks: [Q, n] places in the retriever's list, or that joined of several, from 1.
        positive_scores: [P] scores of the positives, in the order of `Positives.rows`.
        ceilings: [Q] the highest score a negative was allowed, inf where no rule set one.
        ceiling_rules: [Q] the rule that set it: a place in `CEILING_RULES`.
        dropped: how many candidates each rule dropped; a candidate counts for the first.
        candidates: how many were looked at.
        retrievers: names of those that found them; one name stands for the vectors alone.
        found_at: [Q, n, F] places in the list of each retriever, from 1; 0: it did not find it.
    """

    rows: Rows
    scores: Scores
    ranks: Rows
    positive_scores: Scores
    ceilings: npt.NDArray[np.float32]
    ceiling_rules: npt.NDArray[np.int8]
    found_at: npt.NDArray[np.int32]
    retrievers: tuple[str, ...] = (DENSE,)
    dropped: dict[str, int] = field(default_factory=dict)
    candidates: int = 0

    @classmethod
    def join(cls, parts: Sequence[Negatives]) -> Negatives:
        """Put the negatives of following queries together."""
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in cls.__dataclass_fields__
            if name not in ("dropped", "candidates", "retrievers")
        }
        rules = dict.fromkeys(rule for part in parts for rule in part.dropped)
        dropped = {rule: sum(part.dropped.get(rule, 0) for part in parts) for rule in rules}
        candidates = sum(part.candidates for part in parts)
        names = parts[0].retrievers
        return cls(**arrays, dropped=dropped, candidates=candidates, retrievers=names)


CEILING_RULES = (
    "none",
    "absolute_margin",
    "relative_margin",
    "percent_of_positive",
    "max_score",
)


def mine_hard_negatives(
    queries: npt.NDArray[Any],
    corpus: npt.NDArray[Any],
    positives: Positives,
    rules: NegativeRules | None = None,
    *,
    teacher: Teacher | None = None,
    similarity: str = "cosine",
    others: Mapping[str, Rows] | None = None,
    merge: str = "union",
) -> Negatives:
    """Mine negatives for every query by comparing it with the whole corpus.

    Args:
        queries: [Q, D].
        corpus: [N, D]; texts that are equal must be one row, else a positive's copy is found.
        positives: the rows of the corpus that belong to each query.
        rules: what makes a negative.
        teacher: scores pairs better than the vectors do, asked where a rule looks at scores.
        similarity: one of `SIMILARITIES`.
        others: [Q, K] rows that more retrievers found, by name; best first, `MISSING` at the end.
        merge: how their lists are joined: `union` or `rrf`, as of `merge_retrieved`.

    Raises:
        InputError: vectors of two widths, NaN or infinite values, another number of queries.
        SettingsError: ranks that leave no room for the negatives wanted.
    """
    rules = rules or NegativeRules()
    if len(queries) != len(positives):
        raise InputError(f"{len(queries)} query vectors, but positives of {len(positives)} queries")
    asked = teacher if rules.asks_scores else None
    depth = rules.window(positives.most, teacher=asked is not None) + positives.most
    rows = prepared(corpus, similarity, "corpus vectors")
    parts = []
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        block = prepared(queries[start : start + _QUERIES_AT_ONCE], similarity, "query vectors")
        own = positives.part(start, start + len(block))
        found = nearest(block, rows, depth, similarity=similarity)
        known = pair_scores(block, rows, own.queries, own.rows, similarity)
        by = None
        if others:
            lists = {
                name: rows[start : start + len(block), :depth] for name, rows in others.items()
            }
            by = merge_retrieved({DENSE: found.orders, **lists}, merge)
            found = scored(by, partial(pair_scores, block, rows, similarity=similarity))
        parts.append(choose_negatives(found, own, known, rules, first=start, teacher=asked, by=by))
    return Negatives.join(parts)


def scored(by: Retrieved, score: Callable[[Rows, Rows], Scores]) -> TopK:
    """Return what several retrievers found in its order, each pair scored by `score`."""
    queries, places = np.nonzero(by.rows != MISSING)
    scores = np.full(by.rows.shape, -np.inf, np.float32)
    scores[queries, places] = score(queries, by.rows[queries, places])
    return TopK(scores, by.rows)


def choose_negatives(
    found: TopK,
    positives: Positives,
    positive_scores: Scores,
    rules: NegativeRules,
    *,
    first: int = 0,
    teacher: Teacher | None = None,
    by: Retrieved | None = None,
) -> Negatives:
    """Choose the negatives of some queries from what was found for them.

    Args:
        found: [Q, C] nearest rows, or those of `by`, in the order in which they are wanted; C is
            the rules' window and the most positives of a query at least.
        positives: of these queries.
        positive_scores: [P] as the retriever scores them.
        rules: what makes a negative.
        first: number of the first query among all, for the teacher and the draw.
        teacher: asked where a rule looks at scores.
        by: which retriever found them, where there are several.
    """
    scores = np.where(found.orders == MISSING, -np.inf, found.scores).astype(np.float32)
    if teacher is not None and rules.asks_scores:
        scores, positive_scores = taught(teacher, found, positives, first)
    dropped: dict[str, int] = {}
    candidates = int((found.orders != MISSING).sum())
    if not rules.include_positives:
        _drop(scores, positives.among(found.orders), "positive", dropped)
    ceilings = _ceilings(positives, positive_scores, rules)
    for name, ceiling in ceilings.items():
        if name == "absolute_margin":
            above = scores + np.float32(rules.absolute_margin) > ceiling[:, None]
        else:
            above = scores > ceiling[:, None]
        _drop(scores, above, name, dropped)
    if rules.min_score is not None:
        _drop(scores, scores < np.float32(rules.min_score), "min_score", dropped)
    places = _ranked(scores, found.orders, resort=teacher is not None)
    depth = rules.window(positives.most, teacher=teacher is not None)
    places = places[:, rules.range_min : depth]
    if rules.sampling_strategy == "random":
        places = drawn_places(places, scores, found.orders, rules, first)
    places = places[:, : rules.num_negatives]
    chosen = _negatives(found, scores, places, positive_scores, ceilings, rules)
    by = by or Retrieved((DENSE,), found.orders, _own_ranks(found.orders))
    at = np.take_along_axis(by.ranks, places[:, :, None], axis=1)
    at = np.pad(at, ((0, 0), (0, chosen.rows.shape[1] - at.shape[1]), (0, 0)))
    return replace(chosen, dropped=dropped, candidates=candidates, found_at=at, retrievers=by.names)


def _own_ranks(orders: Rows) -> npt.NDArray[np.int32]:
    ranks = np.arange(1, 1 + orders.shape[1], dtype=np.int32)
    return np.broadcast_to(ranks[:, None], (*orders.shape, 1))


def _drop(
    scores: Scores, condition: npt.NDArray[np.bool_], rule: str, dropped: dict[str, int]
) -> None:
    gone = condition & (scores > -np.inf)
    dropped[rule] = int(gone.sum())
    scores[gone] = -np.inf


def _ceilings(positives: Positives, scores: Scores, rules: NegativeRules) -> dict[str, Scores]:
    """Return the highest score each rule allows, [Q]; the absolute margin is not yet taken."""
    lowest = np.minimum.reduceat(scores, positives.offsets[:-1])
    ceilings: dict[str, Scores] = {}
    if rules.absolute_margin is not None:
        ceilings["absolute_margin"] = lowest
    if rules.relative_margin is not None:
        ceilings["relative_margin"] = lowest - np.abs(lowest) * np.float32(rules.relative_margin)
    if rules.percent_of_positive is not None:
        share = np.float32(1 - rules.percent_of_positive / 100)
        ceilings["percent_of_positive"] = lowest - np.abs(lowest) * share
    if rules.max_score is not None:
        ceilings["max_score"] = np.full_like(lowest, rules.max_score)
    return ceilings


def _ranked(scores: Scores, orders: Rows, *, resort: bool) -> Rows:
    """Return places of the candidates, those that were dropped last, else best first."""
    if resort:
        return np.lexsort((orders, -scores), axis=-1)
    return np.argsort(np.isneginf(scores), axis=1, kind="stable")


def _negatives(
    found: TopK,
    scores: Scores,
    places: Rows,
    positive_scores: Scores,
    ceilings: dict[str, Scores],
    rules: NegativeRules,
) -> Negatives:
    taken = np.take_along_axis(scores, places, axis=1)
    empty = np.isneginf(taken)
    rows = np.where(empty, MISSING, np.take_along_axis(found.orders, places, axis=1))
    short = rules.num_negatives - rows.shape[1]
    if short > 0:
        rows = np.pad(rows, ((0, 0), (0, short)), constant_values=MISSING)
        taken = np.pad(taken, ((0, 0), (0, short)), constant_values=-np.inf)
        places = np.pad(places, ((0, 0), (0, short)))
    margin = np.float32(rules.absolute_margin or 0)
    allowed = np.stack(
        [np.full(len(rows), np.inf, np.float32)]
        + [
            (ceilings[name] - margin if name == "absolute_margin" else ceilings[name])
            if name in ceilings
            else np.full(len(rows), np.inf, np.float32)
            for name in CEILING_RULES[1:]
        ]
    )
    binding = allowed.argmin(axis=0)
    return Negatives(
        rows=rows,
        scores=taken,
        ranks=places + 1,
        positive_scores=positive_scores,
        ceilings=allowed[binding, np.arange(len(rows))],
        ceiling_rules=binding.astype(np.int8),
        found_at=np.empty((*rows.shape, 0), np.int32),
    )
