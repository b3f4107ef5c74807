"""Several retrievers at once: their lists joined into one, in which each row knows who found it.

Shapes: Q queries, K results of one retriever, C candidates, F retrievers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError
from raybert.mining.positives import Rows
from raybert.vectors.nearest import places_in_row
from raybert.vectors.topk import MISSING

MERGES = ("union", "rrf")
_RRF_K = 60


class Retrieved(NamedTuple):
    """Candidates of every query, each once.

    Args:
        names: the F retrievers.
        rows: [Q, C] rows of the corpus, `MISSING` where a query has fewer.
        ranks: [Q, C, F] each one's place in the retrievers' lists, from 1; 0: not found.
    """

    names: tuple[str, ...]
    rows: Rows
    ranks: npt.NDArray[np.int32]

    def part(self, start: int, stop: int) -> Retrieved:
        """Return the candidates of queries `start` to `stop`."""
        return Retrieved(self.names, self.rows[start:stop], self.ranks[start:stop])


def merge_retrieved(lists: Mapping[str, Rows], merge: str = "union") -> Retrieved:
    """Join what retrievers found for the same queries.

    Args:
        lists: [Q, K] rows by retriever, best first, `MISSING` at the end.
        merge: `union` takes the best of each in turn; `rrf` orders by the sum of 1 / (60 + rank).

    Raises:
        InputError: unknown merge, or lists of different numbers of queries.
    """
    if merge not in MERGES:
        raise InputError(f"merge {merge!r}: allowed are {', '.join(MERGES)}")
    counts = {len(rows) for rows in lists.values()}
    if len(counts) != 1:
        raise InputError(f"retrievers of {sorted(counts)} queries: one number is needed")
    (count,) = counts
    places = [np.nonzero(rows != MISSING) for rows in lists.values()]
    rows = [found[at] for found, at in zip(lists.values(), places, strict=True)]
    width = 1 + max((int(part.max(initial=0)) for part in rows), default=0)
    keys = [at[0] * width + part for at, part in zip(places, rows, strict=True)]
    pairs, own = np.unique(np.concatenate(keys), return_inverse=True)
    ranks = np.zeros((len(pairs), len(lists)), np.int32)
    starts = np.cumsum([0, *map(len, keys)])
    for finder, (_, place) in enumerate(places):
        ranks[own[starts[finder] : starts[finder + 1]], finder] = place + 1
    queries, found = np.divmod(pairs, width)
    order = np.lexsort((found, *_worth(ranks, merge), queries))
    queries, found, ranks = queries[order], found[order], ranks[order]
    place = places_in_row(queries, count)
    most = int(place.max(initial=-1)) + 1
    out = np.full((count, most), MISSING, np.int64)
    out[queries, place] = found
    by = np.zeros((count, most, len(lists)), np.int32)
    by[queries, place] = ranks
    return Retrieved(tuple(lists), out, by)


def _worth(ranks: npt.NDArray[np.int32], merge: str) -> tuple[npt.NDArray[np.float64], ...]:
    """Return what candidates [P, F] are ordered by, the last first; the least is the best."""
    if merge == "rrf":
        return (-np.where(ranks > 0, 1 / (_RRF_K + ranks), 0).sum(axis=1),)
    missing = np.where(ranks > 0, ranks, np.inf)
    return missing.argmin(axis=1).astype(np.float64), missing.min(axis=1)
