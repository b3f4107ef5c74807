"""Tables of mined negatives: the four shapes that trainers read, with ids, scores and reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybert.errors import InputError
from raybert.mining.hard_negatives import CEILING_RULES, Negatives
from raybert.mining.positives import Positives, Rows
from raybert.vectors.topk import MISSING, Scores


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts by row, with their ids: two Arrow arrays (or lists of strings) of one length."""

    ids: Any
    texts: Any

    def take(self, rows: Rows) -> tuple[pa.Array, pa.Array]:
        """Return ids and texts at `rows`."""
        at = pa.array(rows.reshape(-1))
        return _strings(self.ids).take(at), _strings(self.texts).take(at)


def _strings(values: Any) -> pa.Array:
    known = isinstance(values, pa.Array | pa.ChunkedArray)
    return values if known else pa.array(values, pa.large_string())


def negatives_table(
    negatives: Negatives,
    positives: Positives,
    anchors: Texts,
    corpus: Texts,
    output_format: str = "triplet",
    *,
    output_scores: bool = False,
) -> pa.Table:
    """Return mined negatives as a table.

    The columns a trainer reads come first: `triplet` anchor, positive, negative; `n-tuple`
    anchor, positive, negative_1 … n, only where all n were found; `labeled-pair` anchor,
    document, label; `labeled-list` anchor, documents, labels. With `output_scores` scores stand
    for labels, and tuples have a list `scores`. Columns of provenance follow.

    Args:
        negatives: what was mined.
        positives: what it was mined for.
        anchors: texts of the queries.
        corpus: texts of the corpus.
        output_format: triplet, n-tuple, labeled-pair or labeled-list.
        output_scores: scores beside, or instead of, labels.

    Raises:
        InputError: unknown format.
    """
    if output_format not in FORMATS:
        raise InputError(f"output_format {output_format!r}: allowed are {', '.join(FORMATS)}")
    lines = _Lines(negatives, positives, anchors, corpus)
    return FORMATS[output_format](lines, output_scores)


@dataclass(frozen=True, slots=True)
class _Lines:
    """What was mined, one line a positive."""

    negatives: Negatives
    positives: Positives
    anchors: Texts
    corpus: Texts

    @property
    def queries(self) -> Rows:
        return self.positives.queries

    @property
    def rows(self) -> Rows:
        """Negatives of each positive, [P, n]."""
        return np.asarray(self.negatives.rows[self.queries])

    @property
    def scores(self) -> Scores:
        """Their scores, [P, n]."""
        return np.asarray(self.negatives.scores[self.queries])

    def pairs(self, lines: Rows) -> dict[str, Any]:
        """Return anchor and positive of some lines, texts and ids."""
        anchor_ids, anchors = self.anchors.take(self.queries[lines])
        ids, texts = self.corpus.take(self.positives.rows[lines])
        return {
            "anchor": anchors,
            "positive": texts,
            "anchor_id": anchor_ids,
            "positive_id": ids,
            "positive_score": pa.array(self.negatives.positive_scores[lines]),
        }

    def reasons(self, queries: Rows, places: Rows) -> pa.Array:
        """Say why negatives were kept."""
        return pa.array(kept_because(self.negatives, queries, places), pa.large_string())


def kept_because(negatives: Negatives, queries: Rows, places: Rows) -> list[str]:
    """Say for each negative (query, place) at which rank it stood and what it stayed under.

    Where several retrievers looked, the names and ranks of those that found it follow.
    """
    ceilings = negatives.ceilings[queries].tolist()
    rules = [CEILING_RULES[rule] for rule in negatives.ceiling_rules[queries].tolist()]
    ranks = negatives.ranks[queries, places].tolist()
    scores = negatives.scores[queries, places].tolist()
    finders = _found_by(negatives, queries, places)
    return [
        f"rank {rank}{found}"
        if rule == CEILING_RULES[0]
        else f"rank {rank}, {score:.4f} <= {ceiling:.4f} ({rule}){found}"
        for rank, score, ceiling, rule, found in zip(
            ranks, scores, ceilings, rules, finders, strict=True
        )
    ]


def _found_by(negatives: Negatives, queries: Rows, places: Rows) -> list[str]:
    """Say by whom each was found: ", found by dense 3, bm25 1"; nothing for one retriever."""
    names = negatives.retrievers
    if len(names) == 1:
        return [""] * len(queries)
    return [
        ", found by "
        + ", ".join(f"{name} {at}" for name, at in zip(names, ranks, strict=True) if at)
        for ranks in negatives.found_at[queries, places].tolist()
    ]


def _triplets(mined: _Lines, output_scores: bool) -> pa.Table:
    lines, places = np.nonzero(mined.rows != MISSING)
    pairs = mined.pairs(lines)
    ids, texts = mined.corpus.take(mined.rows[lines, places])
    queries, scores = mined.queries[lines], mined.scores[lines, places]
    columns = {"anchor": pairs.pop("anchor"), "positive": pairs.pop("positive"), "negative": texts}
    if output_scores:
        both = np.stack([mined.negatives.positive_scores[lines], scores], axis=1)
        columns["scores"] = _lists(both)
    return pa.table(
        {
            **columns,
            **pairs,
            "negative_id": ids,
            "negative_score": pa.array(scores),
            "negative_rank": pa.array(mined.negatives.ranks[queries, places]),
            "kept_because": mined.reasons(queries, places),
        }
    )


def _tuples(mined: _Lines, output_scores: bool) -> pa.Table:
    lines = np.flatnonzero((mined.rows != MISSING).all(axis=1))
    pairs = mined.pairs(lines)
    rows, scores, queries = mined.rows[lines], mined.scores[lines], mined.queries[lines]
    width = rows.shape[1]
    columns = {"anchor": pairs.pop("anchor"), "positive": pairs.pop("positive")}
    for place in range(width):
        columns[f"negative_{place + 1}"] = mined.corpus.take(rows[:, place])[1]
    if output_scores:
        first = mined.negatives.positive_scores[lines][:, None]
        columns["scores"] = _lists(np.concatenate([first, scores], axis=1))
    places = np.tile(np.arange(width), len(lines))
    return pa.table(
        {
            **columns,
            **pairs,
            "negative_ids": _listed(mined.corpus.take(rows)[0], width, len(lines)),
            "negative_scores": _lists(scores),
            "negative_ranks": _lists(mined.negatives.ranks[queries]),
            "kept_because": _listed(
                mined.reasons(np.repeat(queries, width), places), width, len(lines)
            ),
        }
    )


def _labelled_pairs(mined: _Lines, output_scores: bool) -> pa.Table:
    """Every query's positives, then its negatives, once."""
    own = mined.positives
    queries, places = np.nonzero(mined.negatives.rows != MISSING)
    order = np.argsort(np.concatenate([own.queries, queries]), kind="stable")
    anchor_ids, anchors = mined.anchors.take(np.concatenate([own.queries, queries])[order])
    found = mined.negatives.rows[queries, places]
    ids, texts = mined.corpus.take(np.concatenate([own.rows, found])[order])
    known = mined.negatives.positive_scores
    scores = np.concatenate([known, mined.negatives.scores[queries, places]])[order]
    labels = np.repeat([1, 0], [len(own.rows), len(found)])[order]
    reasons = ["positive"] * len(known) + kept_because(mined.negatives, queries, places)
    last = {"score": pa.array(scores)} if output_scores else {"label": pa.array(labels)}
    return pa.table(
        {
            "anchor": anchors,
            "document": texts,
            **last,
            "anchor_id": anchor_ids,
            "document_id": ids,
            **({} if output_scores else {"score": pa.array(scores)}),
            "kept_because": pa.array(reasons, pa.large_string()).take(pa.array(order)),
        }
    )


def _labelled_lists(mined: _Lines, output_scores: bool) -> pa.Table:
    """Every positive with the negatives of its query, in one list."""
    lines = np.flatnonzero((mined.rows != MISSING).any(axis=1))
    rows = np.column_stack([mined.positives.rows[lines], mined.rows[lines]])
    scores = np.column_stack([mined.negatives.positive_scores[lines], mined.scores[lines]])
    there = rows != MISSING
    offsets = np.concatenate([[0], there.sum(axis=1).cumsum()])
    ids, texts = mined.corpus.take(rows[there])
    labels = np.zeros(len(ids), np.int64)
    labels[offsets[:-1]] = 1
    anchor_ids, anchors = mined.anchors.take(mined.queries[lines])
    named = {"scores": scores[there]} if output_scores else {"labels": labels}
    return pa.table(
        {
            "anchor": anchors,
            "documents": _ragged(offsets, texts),
            **{name: _ragged(offsets, pa.array(values)) for name, values in named.items()},
            "anchor_id": anchor_ids,
            "document_ids": _ragged(offsets, ids),
        }
    )


def _lists(values: npt.NDArray[Any]) -> pa.Array:
    """Return a matrix as a column of lists."""
    return _listed(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1], len(values))


def _listed(flat: Any, width: int, rows: int) -> pa.Array:
    return _ragged(np.arange(rows + 1, dtype=np.int64) * width, flat)


def _ragged(offsets: Rows, flat: Any) -> pa.Array:
    whole = flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), whole)


FORMATS: dict[str, Callable[[_Lines, bool], pa.Table]] = {
    "triplet": _triplets,
    "n-tuple": _tuples,
    "labeled-pair": _labelled_pairs,
    "labeled-list": _labelled_lists,
}
