"""An exact inverted file over sparse rows: a list of rows and impacts for every term.

Rows with no term in common with the query are not found: their score is 0. Shapes: Q queries,
N rows, V vocabulary, T terms that occur, P postings, K results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from raybert.errors import InputError
from raybert.index.filters import Mask
from raybert.vectors import TopK, best

SparseRows: TypeAlias = Any
"""SciPy compressed rows [N, V], float32."""
FLOORS = (10, 100, 1000)
"""Ranks of which each list's impact is kept: a start for the K-th score of a search."""
_PEAKS_PAY = 2
"""A list this many times longer than there are windows gets the greatest impact of each."""
_FLUSH_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class InvertedFile:
    """The lists of some rows.

    Args:
        count: number of rows N.
        terms: [T] the terms that occur, rising.
        starts: [T + 1] where each list begins among the postings.
        rows: [P] rows, rising within a list.
        impacts: [P] weights, all above 0.
        tops: [T] greatest impact of each list.
        floors: [T, len(FLOORS)] impact at these ranks of each list, 0 where it is shorter.
        peaks_at: [T] where the greatest impacts by window begin in `peaks`, -1 for none.
        peaks: the greatest impacts by window, of long lists.
    """

    count: int
    terms: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    impacts: npt.NDArray[np.float32]
    tops: npt.NDArray[np.float32]
    floors: npt.NDArray[np.float32]
    peaks_at: npt.NDArray[np.int64]
    peaks: npt.NDArray[np.float32]

    @classmethod
    def of(cls, rows_NV: SparseRows) -> InvertedFile:
        """Turn rows into lists."""
        from raybert.index.impacts import WINDOW

        columns = sparse.csc_array(rows_NV, dtype=np.float32)
        columns.sum_duplicates()
        columns.eliminate_zeros()
        lengths = np.diff(columns.indptr)
        terms = np.flatnonzero(lengths).astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(lengths[terms])]).astype(np.int64)
        count = int(columns.shape[0])
        windows = -(-count // WINDOW)
        rows, impacts = columns.indices.astype(np.int32), columns.data
        at, peaks = _peaks(starts, rows // np.int32(WINDOW), impacts, windows)
        tops = np.maximum.reduceat(impacts, starts[:-1]) if len(terms) else impacts[:0]
        arrays = (terms, starts, rows, impacts, tops, _floors(starts, impacts), at, peaks)
        for array in arrays:
            array.flags.writeable = False  # as mapped files are: one compiled search serves both
        return cls(count, *arrays)

    def matrix(self, width: int) -> SparseRows:
        """Return the rows [N, V] again."""
        lengths = np.zeros(width, np.int64)
        lengths[self.terms] = np.diff(self.starts)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        columns = (self.impacts, self.rows, starts)
        return sparse.csc_array(columns, shape=(self.count, width)).tocsr()

    def search(
        self, terms: Any, weights: Any, k: int, allowed: Mask | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return scores and rows of the best `k` for one query, in no order."""
        from raybert.index.impacts import search_one

        scores, rows = np.zeros(k, np.float32), np.zeros(k, np.int64)
        at = np.searchsorted(self.terms, terms)
        known = at < len(self.terms)
        known[known] = self.terms[at[known]] == terms[known]
        at, heavy = at[known], weights[known].astype(np.float64)
        if not len(at):
            return scores[:0], rows[:0]
        passes = _ALL if allowed is None else np.ascontiguousarray(allowed)
        spans = np.stack([self.starts[at], self.starts[at + 1]], axis=1)
        lists = (self.rows, self.tops[at], self.peaks_at[at])
        floor = 0.0 if allowed is not None else self._floor(at, heavy, k)
        held = search_one(
            self.count, (self.rows, self.impacts), lists, self.peaks, spans, heavy, passes, floor,
            scores, rows,
        )  # fmt: skip
        return scores[:held], rows[:held]

    def _floor(self, at: Any, weights: Any, k: int) -> float:
        """Return a score that at least `k` rows reach: by one term alone."""
        rank = int(np.searchsorted(FLOORS, k))
        if rank == len(FLOORS):
            return 0.0
        return float(np.float32((self.floors[at, rank] * weights).max()))


_ALL = np.zeros(0, np.bool_)


class InvertedShard:
    """Exact search in one shard, to which rows can be added and of which rows can be deleted.

    Rows added are searched beside the others until they are a tenth of them, then taken in.

    Args:
        lists: the shard's lists.
        width: V, width of its rows.
    """

    effort = 0

    def __init__(self, lists: InvertedFile, width: int) -> None:
        self._width = width
        self._parts = [lists]
        self._alive: Mask | None = None

    def __len__(self) -> int:
        return sum(part.count for part in self._parts)

    def add(self, rows_NV: SparseRows) -> None:
        """Add rows after the last; the next search finds them."""
        fresh = sparse.csr_array(rows_NV)
        if fresh.shape[1] != self._width:
            raise InputError(
                f"rows {fresh.shape[1]} wide: this index holds rows {self._width} wide"
            )
        if len(self._parts) > 1:
            fresh = sparse.vstack([self._parts.pop().matrix(self._width), fresh])
        if fresh.shape[0] > _FLUSH_SHARE * self._parts[0].count:
            fresh = sparse.vstack([self._parts.pop().matrix(self._width), fresh])
        self._parts.append(InvertedFile.of(fresh))
        if self._alive is not None:
            grown = np.ones(len(self), np.bool_)
            grown[: len(self._alive)] = self._alive
            self._alive = grown

    def delete(self, rows: npt.NDArray[np.int64]) -> None:
        """Delete rows by their numbers, which others keep; the next search finds them no more."""
        if len(rows) and not 0 <= min(rows) <= max(rows) < len(self):
            raise InputError(f"row {min(rows)} or {max(rows)}: 0 to {len(self) - 1} are there")
        alive = np.ones(len(self), np.bool_) if self._alive is None else self._alive.copy()
        alive[rows] = False
        self._alive = alive

    def search(self, queries_QV: SparseRows, k: int, allowed: Mask | None = None) -> TopK:
        """Return the `k` best rows of every query, those that share a term with it."""
        k = min(k, len(self))
        found = TopK.empty(queries_QV.shape[0], k)
        passes = allowed if self._alive is None else self._alive
        if allowed is not None and self._alive is not None:
            passes = allowed & self._alive
        for query in range(queries_QV.shape[0]):
            span = slice(queries_QV.indptr[query], queries_QV.indptr[query + 1])
            terms, weights = queries_QV.indices[span], queries_QV.data[span]
            scores, rows = self._searched(terms, weights, k, passes)
            one = best(scores[None], rows[None], k)
            found.scores[query, : one.scores.shape[1]] = one.scores[0]
            found.orders[query, : one.orders.shape[1]] = one.orders[0]
        return found

    def _searched(self, terms: Any, weights: Any, k: int, allowed: Mask | None) -> tuple[Any, Any]:
        scores, rows, start = [], [], 0
        for part in self._parts:
            own = None if allowed is None else allowed[start : start + part.count]
            found = part.search(terms, weights, min(k, part.count), own)
            scores.append(found[0])
            rows.append(found[1] + start)
            start += part.count
        return np.concatenate(scores), np.concatenate(rows)


def _peaks(starts: Any, numbers: Any, impacts: Any, windows: int) -> tuple[Any, Any]:
    """Return where long lists' greatest impacts by window begin, and these."""
    lengths = np.diff(starts)
    long = np.flatnonzero(lengths > _PEAKS_PAY * windows)
    at = np.full(len(lengths), -1, np.int64)
    at[long] = np.arange(len(long)) * windows
    peaks = np.zeros(len(long) * windows, np.float32)
    for term in long:
        span = slice(starts[term], starts[term + 1])
        own = numbers[span]
        firsts = np.flatnonzero(np.diff(own, prepend=-1))
        peaks[at[term] + own[firsts]] = np.maximum.reduceat(impacts[span], firsts)
    return at, peaks


def _floors(starts: Any, impacts: Any) -> Any:
    """Return each list's impact at the ranks `FLOORS`."""
    floors = np.zeros((len(starts) - 1, len(FLOORS)), np.float32)
    for place, rank in enumerate(FLOORS):
        for term in np.flatnonzero(np.diff(starts) >= rank):
            own = impacts[starts[term] : starts[term + 1]]
            floors[term, place] = np.partition(own, len(own) - rank)[len(own) - rank]
    return floors
