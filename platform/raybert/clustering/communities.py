"""Communities: groups of rows around a centre that all are near to (fast clustering).

The greedy rule of Sentence Transformers 6, with its result: every row with enough neighbours at or
above the threshold is a candidate centre; candidates are taken by falling size (the first row among
equals), a row belongs to the first community that claims it, and a claimed row is no centre.
Shapes: N rows, D width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError
from raybert.vectors.nearest import (
    CORPUS_TILE,
    QUERY_TILE,
    Matrix,
    Rows,
    falling,
    prepared,
    products,
)


def community_detection(
    vectors: npt.NDArray[Any],
    threshold: float = 0.75,
    min_community_size: int = 10,
) -> list[list[int]]:
    """Find communities; rows that belong to none are left out.

    Memory holds one tile of products, and which rows are near to those of the tile.

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
    rows = prepared(np.asarray(vectors), "cosine")
    tiles = (rows[start : start + QUERY_TILE] for start in range(0, len(rows), QUERY_TILE))
    sizes = np.concatenate(
        [np.bincount(_near(tile, rows, threshold).tall, minlength=len(tile)) for tile in tiles]
    )
    centres = np.flatnonzero(sizes >= min_community_size)
    centres = centres[np.argsort(-sizes[centres], kind="stable")]
    used = np.zeros(len(rows), bool)
    communities: list[list[int]] = []
    for start in range(0, len(centres), QUERY_TILE):
        part = centres[start : start + QUERY_TILE]
        part = part[~used[part]]
        if not len(part):
            continue
        for centre, members in zip(part.tolist(), _members(rows, part, threshold), strict=True):
            free = members[~used[members]]
            if not used[centre] and len(free) >= min_community_size:
                community = [centre, *free[free != centre].tolist()]
                communities.append(community)
                used[community] = True
    return sorted(communities, key=len, reverse=True)


class _Near(NamedTuple):
    """Rows that are near to those of a tile, row by row, by falling cosine."""

    tall: Rows
    wide: Rows


def _near(tile: Matrix, rows: Matrix, threshold: float) -> _Near:
    tall, wide, scores = [], [], []
    for start in range(0, len(rows), CORPUS_TILE):
        cosines = products(tile, rows[start : start + CORPUS_TILE]).numpy()
        own, other = np.nonzero(cosines >= np.float32(threshold))
        tall.append(own)
        wide.append(other + start)
        scores.append(cosines[own, other])
    own, cosine = np.concatenate(tall), np.concatenate(scores)
    order = np.argsort((own << 32) + falling(cosine), kind="stable")
    return _Near(own[order], np.concatenate(wide)[order])


def _members(rows: Matrix, centres: Rows, threshold: float) -> list[Rows]:
    """Return the rows near to each centre, by falling cosine."""
    near = _near(rows[centres], rows, threshold)
    counts = np.bincount(near.tall, minlength=len(centres))
    return np.split(near.wide, np.cumsum(counts)[:-1])
