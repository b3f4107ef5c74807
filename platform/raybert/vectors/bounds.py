"""Bounds of products: a product of narrower rows that no true product exceeds.

Rows are turned onto the principal directions of a sample. The first H coordinates are kept, and
of the rest only its length: by Cauchy and Schwarz, x . y <= head(x) . head(y) + |rest(x)||rest(y)|.
So one matrix product over H + 1 columns rules out nearly all pairs, and only the others are
multiplied in full. What is found is exact; H decides the cost alone. Shapes: N rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import faiss
import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.int64]
_faiss: Any = faiss

_SAMPLE, _ASKED = 4096, 256
_FEW_PAIRS = 1 << 24
"""Pairs below which looking for directions costs more than it saves."""
_PAIR_COST = 6.0
"""What a pair costs that is multiplied alone, against its part of a product of all."""
_WORTH = 0.9
_CELL, _FEW_CELLS = 512, 8
_HEADS = tuple(part / 16 for part in range(2, 13))


@dataclass(frozen=True, slots=True)
class Bounds:
    """How rows are narrowed.

    Args:
        directions: [D, H], or None where narrowing does not pay.
    """

    directions: Matrix | None = None

    @classmethod
    def fit(
        cls, queries: Matrix, corpus: Matrix, k: int, rows: int, least: float = -np.inf
    ) -> Bounds:
        """Choose the directions by which the `k` best of `rows` cost least.

        Args:
            queries: [Q, D], of which a sample is looked at.
            corpus: [N, D], likewise.
            k: neighbours a query.
            rows: rows that will be searched in all.
            least: the score a neighbour has at least.
        """
        if len(queries) * rows < _FEW_PAIRS:
            return cls()
        asked, sample = _sampled(queries, _ASKED), _sampled(corpus, _SAMPLE)
        turned = np.linalg.eigh((sample.T @ sample).astype(np.float64))[1][:, ::-1]
        # while it is searched a corpus is known in part, so that twice the best reach the floor
        floor = max(least, float(np.quantile(asked @ sample.T, 1 - min(1.0, 2 * k / rows))))
        cheapest, chosen = _WORTH, cls()
        for part in _HEADS:
            head = np.ascontiguousarray(turned[:, : int(part * len(turned))], np.float32)
            tried = cls(head)
            reached = float((tried.of(asked) @ tried.of(sample).T >= floor).mean())
            if part + _PAIR_COST * reached < cheapest:
                cheapest, chosen = part + _PAIR_COST * reached, tried
        return chosen

    def width(self, width: int) -> int:
        """Return the width of the bounds of rows `width` wide."""
        return 1 + (width if self.directions is None else self.directions.shape[1])

    def of(self, rows: Matrix) -> Matrix:
        """Return the narrower rows [N, H + 1]; their products bound those of `rows`."""
        squares = np.einsum("nd,nd->n", rows, rows)
        # room for the rounding of all that is summed, here and in the product
        room = 2 * rows.shape[1] * np.finfo(np.float32).eps * squares
        if self.directions is None:
            return np.column_stack([rows, np.sqrt(room)])
        head = rows @ self.directions
        rest = np.maximum(squares - np.einsum("nh,nh->n", head, head), 0)
        return np.column_stack([head, np.sqrt(rest + room)])


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of near rows: rows sorted by them meet their neighbours early, which raises floors.

    Args:
        centres: [C, D]; one cell where there are few rows.
    """

    centres: Matrix

    @classmethod
    def of(cls, rows: Matrix) -> Cells:
        """Learn cells of some 512 rows from a sample, by k-means."""
        count = len(rows) // _CELL
        if count < _FEW_CELLS:
            return cls(rows[:1])
        learner = _faiss.Kmeans(rows.shape[1], count, niter=4, seed=1, min_points_per_centroid=1)
        learner.train(_sampled(rows, 48 * count))
        return cls(np.asarray(learner.centroids, np.float32))

    def sorted(self, rows: Matrix) -> Rows:
        """Return the order of rows [N] by cell."""
        if len(self.centres) < 2:
            return np.arange(len(rows), dtype=np.int64)
        chunks = (rows[start : start + _SAMPLE] for start in range(0, len(rows), _SAMPLE))
        cells = [(chunk @ self.centres.T).argmax(axis=1) for chunk in chunks]
        return np.argsort(np.concatenate([np.empty(0, np.int64), *cells]), kind="stable")


class Tiles:
    """Tiles of rows that are sorted by cell.

    Args:
        cells: the cells.
        rows: [N, D].
        order: [N] their order by cell.
        size: rows in a tile.
    """

    def __init__(self, cells: Cells, rows: Matrix, order: Rows, size: int) -> None:
        self._cells, self._size = cells, size
        tiles = (order[start : start + size] for start in range(0, len(order), size))
        self._means = np.array([rows[tile].mean(axis=0) for tile in tiles])

    def near(self, rows: Matrix) -> list[int]:
        """Return where the tiles begin, those near to any of the cells of `rows` first."""
        centres = self._cells.centres
        order = np.arange(len(self._means))
        if len(centres) > 1:
            own = centres[np.unique((rows @ centres.T).argmax(axis=1))]
            places = np.argsort(np.argsort(-(own @ self._means.T), axis=1), axis=1)
            order = np.argsort(places.min(axis=0), kind="stable")
        return [tile * self._size for tile in order.tolist()]


def _sampled(rows: Matrix, count: int) -> Matrix:
    """Return `count` rows at even distances, or all."""
    return rows[:: -(-len(rows) // count)] if len(rows) else rows
