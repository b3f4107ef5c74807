"""Bounds of products: a cheaper product that rules out nearly all pairs of rows.

Where the processor multiplies bfloat16 fast, rows are rounded to it, and what rounding took away
bounds the error: by Cauchy and Schwarz, x . y <= x' . y' + |x - x'||y| + |x'||y - y'|.
Elsewhere rows are turned onto the principal directions of a sample; the first H coordinates are
kept, and of the rest only its length: x . y <= head(x) . head(y) + |rest(x)||rest(y)|.
Only pairs that a bound lets through are multiplied in full, so what is found is exact.
Shapes: M and N rows of two tiles, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import faiss
import numpy as np
import numpy.typing as npt
import torch

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


@cache
def halves() -> bool:
    """Whether this processor multiplies bfloat16 several times as fast as float32 (AMX)."""
    able = bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return able and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class Narrow(NamedTuple):
    """Rows whose products bound those of the true rows.

    x . y <= narrow(x) . narrow(y) + error(x) length(y) + length(x) error(y)

    Args:
        rows: [N, H] float32 or bfloat16.
        lengths: [N] of the true rows or more.
        errors: [N] how far rounding may have moved each.
    """

    rows: torch.Tensor
    lengths: npt.NDArray[np.float32]
    errors: npt.NDArray[np.float32]

    @classmethod
    def empty(cls, count: int, width: int, dtype: torch.dtype) -> Narrow:
        """Return room for `count` rows."""
        lengths = np.empty((2, count), np.float32)
        return cls(torch.empty((count, width), dtype=dtype), lengths[0], lengths[1])

    def part(self, start: int, count: int) -> Narrow:
        """Return `count` rows from `start` on."""
        rows = slice(start, start + count)
        return Narrow(self.rows[rows], self.lengths[rows], self.errors[rows])

    def products(self, other: Narrow) -> torch.Tensor:
        """Return the products [M, N] of narrow rows."""
        return self.rows @ other.rows.T

    def least(self, other: Narrow, floor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what the product of narrow rows must be for a true one to reach a floor, [M]."""
        most, worst = (field.max(initial=0) for field in other[1:])
        return np.asarray(floor - (self.errors * most + self.lengths * worst))


def reached(
    left: Narrow,
    right: Narrow,
    floor: npt.NDArray[np.float32],
    back: npt.NDArray[np.float32] | None = None,
) -> tuple[Rows, Rows]:
    """Return the pairs of two tiles, (row, column), that may reach a floor.

    Args:
        left: M rows.
        right: N rows.
        floor: [M] what a pair must score for its row.
        back: [N] for its column; one of the two is enough.
    """
    over, floors = left.products(right), [left.least(right, floor)[:, None]]
    if back is not None:
        floors.append(right.least(left, back))
    if over.dtype == torch.bfloat16:
        steps, whole = over.view(torch.int16).numpy(), [_steps(floor) for floor in floors]
        # as whole numbers negative scores stand in reverse, which matters to floors among them
        if any(floor.min(initial=1) <= 0 for floor in floors):
            steps = steps ^ ((steps >> 15) & 0x7FFF)
        masks = [steps >= floor for floor in whole]
    else:
        masks = [over.numpy() >= floor for floor in floors]
    for other in masks[1:]:
        masks[0] |= other
    return tuple(np.divmod(_places(masks[0].ravel()), over.shape[1]))  # type: ignore[return-value]


def _steps(floors: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return the places of floors in the order of all bfloat16, each rounded down."""
    bits = floors.view(np.int32)
    rising = (bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 16
    return np.asarray(rising - (floors <= 0)).astype(np.int16)


def _places(mask: npt.NDArray[np.bool_]) -> Rows:
    """Return where a mask is true, eight at a time: few are."""
    if len(mask) % 8:
        return np.flatnonzero(mask)
    some = np.flatnonzero(mask.view(np.uint64) != 0)
    at, place = np.nonzero(mask.reshape(-1, 8)[some])
    return np.asarray(some[at] * 8 + place)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How rows are narrowed: rounded to bfloat16 where that is fast, else by directions.

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
        if halves() or len(queries) * rows < _FEW_PAIRS:
            return cls()
        asked, sample = _sampled(queries, _ASKED), _sampled(corpus, _SAMPLE)
        turned = np.linalg.eigh((sample.T @ sample).astype(np.float64))[1][:, ::-1]
        # while it is searched a corpus is known in part, so that twice the best reach the floor
        floor = max(least, float(np.quantile(asked @ sample.T, 1 - min(1.0, 2 * k / rows))))
        cheapest, chosen = _WORTH, cls()
        for part in _HEADS:
            head = np.ascontiguousarray(turned[:, : int(part * len(turned))], np.float32)
            tried = cls(head)
            over = tried.of(asked).products(tried.of(sample))
            share = part + _PAIR_COST * float((over.numpy() >= floor).mean())
            if share < cheapest:
                cheapest, chosen = share, tried
        return chosen

    def of(self, rows: Matrix, at: Rows | None = None) -> Narrow:
        """Narrow the rows `at`, or all; holds a copy of a few of them at a time."""
        at = np.arange(len(rows)) if at is None else at
        half, width = halves(), rows.shape[1]
        if self.directions is not None and not half:
            width = 1 + self.directions.shape[1]
        narrow = Narrow.empty(len(at), width, torch.bfloat16 if half else torch.float32)
        for start in range(0, len(at), _SAMPLE):
            taken = rows[at[start : start + _SAMPLE]]
            lengths = np.sqrt(np.einsum("nd,nd->n", taken, taken))
            kept = torch.from_numpy(self._kept(taken, half))
            part = narrow.part(start, _SAMPLE)
            part.rows.copy_(kept)
            lost = (kept - part.rows.float()).numpy()
            # room for the rounding of all that is summed, here and in the product
            room = 2 * rows.shape[1] * np.finfo(np.float32).eps * lengths
            part.errors[:] = np.sqrt(np.einsum("nh,nh->n", lost, lost)) + room
            part.lengths[:] = lengths + part.errors
        return narrow

    def _kept(self, rows: Matrix, half: bool) -> Matrix:
        if self.directions is None or half:
            return rows
        head = rows @ self.directions
        squares = (np.einsum("nd,nd->n", part, part) for part in (rows, head))
        rest = np.maximum(np.subtract(*squares), 0)
        return np.column_stack([head, np.sqrt(rest)])


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
