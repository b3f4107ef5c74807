"""Communities: groups of rows around a centre that all are near to (fast clustering).

The greedy rule of Sentence Transformers 6, with its result: every row with enough neighbours at or
above the threshold is a candidate centre; candidates are taken by falling size (the first row among
equals), a row belongs to the first community that claims it, and a claimed row is no centre.
Shapes: N rows, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError
from raybert.vectors.bounds import Bounds, Cells, Matrix
from raybert.vectors.nearest import (
    CORPUS_TILE,
    QUERY_TILE,
    Bounded,
    Rows,
    in_threads,
    prepared,
    ranking,
    reaching,
)
from raybert.vectors.topk import Scores


def community_detection(
    vectors: npt.NDArray[Any],
    threshold: float = 0.75,
    min_community_size: int = 10,
) -> list[list[int]]:
    """Find communities; rows that belong to none are left out.

    Memory holds one tile of bounds, and which rows are near to those of the tile.

    Args:
        vectors: [N, D].
        threshold: the least cosine of a member to its centre, inclusive.
        min_community_size: rows in a community at least, the centre counted.

    Returns:
        Rows of each community, the centre first and the others by falling cosine; the largest
        community first.

    Raises:
        InputError: a size below 1, NaN or infinite values.
    """
    if min_community_size < 1:
        raise InputError(f"min_community_size {min_community_size}: at least 1 is allowed")
    if len(vectors) < min_community_size:
        return []
    near = NearRows.of(prepared(np.asarray(vectors), "cosine"), threshold)
    return chosen_communities(near.sizes(), near.members, min_community_size)


def chosen_communities(
    sizes: Rows, members_of: Callable[[Rows], list[Rows]], min_community_size: int
) -> list[list[int]]:
    """Choose communities by the greedy rule.

    Args:
        sizes: [N] how many rows are near to each, itself counted.
        members_of: gives for some rows those near to each, by falling cosine.
        min_community_size: rows in a community at least.
    """
    centres = np.flatnonzero(sizes >= min_community_size)
    centres = centres[np.argsort(-sizes[centres], kind="stable")]
    used = np.zeros(len(sizes), bool)
    communities: list[list[int]] = []
    for start in range(0, len(centres), QUERY_TILE):
        part = centres[start : start + QUERY_TILE]
        part = part[~used[part]]
        if not len(part):
            continue
        for centre, members in zip(part.tolist(), members_of(part), strict=True):
            free = members[~used[members]]
            if not used[centre] and len(free) >= min_community_size:
                community = [centre, *free[free != centre].tolist()]
                communities.append(community)
                used[community] = True
    return sorted(communities, key=len, reverse=True)


class NearRows(NamedTuple):
    """Which rows of a set are near to which: at or above the threshold."""

    sides: Bounded
    bounds: Bounds
    threshold: float

    @classmethod
    def of(cls, rows: Matrix, threshold: float) -> NearRows:
        """Make ready to compare unit rows [N, D]."""
        bounds = Bounds.fit(rows, rows, len(rows), len(rows), threshold)
        return cls(Bounded.of(rows, Cells.of(rows).sorted(rows), bounds), bounds, threshold)

    def sizes(self) -> Rows:
        """Return how many rows are near to each."""
        sizes = np.empty(len(self.sides.at), np.int64)

        def count(start: int) -> None:
            tile = self.sides.tile(start, QUERY_TILE)
            parts = [rows for rows, _, _ in self.pairs(tile)]
            sizes[tile.at] = np.bincount(np.concatenate(parts), minlength=len(tile.at))

        for _ in in_threads(count, range(0, len(sizes), QUERY_TILE)):
            pass
        return sizes

    def members(self, centres: Rows) -> list[Rows]:
        """Return the rows near to each centre, by falling cosine."""
        found = [*self.pairs(Bounded.of(self.sides.rows, centres, self.bounds))]
        rows, others, cosines = (np.concatenate(part) for part in zip(*found, strict=True))
        return members_by_row(rows, others, cosines, len(centres))

    def pairs(self, tile: Bounded) -> Iterator[tuple[Rows, Rows, Scores]]:
        """Yield pairs (place in the tile, row, cosine)."""
        floor = np.full(len(tile.at), self.threshold, np.float32)
        for start in range(0, len(self.sides.at), CORPUS_TILE):
            other = self.sides.tile(start, CORPUS_TILE)
            rows, columns, cosines = reaching(tile, other, floor)
            yield rows, other.at[columns], cosines


def members_by_row(rows: Rows, others: Rows, cosines: Scores, count: int) -> list[Rows]:
    """Split pairs by their row, each row's others by falling cosine."""
    order = ranking(rows, others, cosines)
    counts = np.bincount(rows, minlength=count)
    return np.split(others[order], np.cumsum(counts)[:-1])
