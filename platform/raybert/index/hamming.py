"""Rows nearest by Hamming distance, exactly, compiled by Numba: one pass to count, one to collect.

Distances are few, so the rows wanted are those up to a limit that a histogram tells; of rows at the
limit the first are taken. Shapes: Q queries, N rows, W words of a row, C candidates.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.extending import intrinsic

from raybert.index.filters import Mask

_EVERY = np.zeros(0, np.bool_)


@intrinsic  # type: ignore[untyped-decorator]
def _ones(_: Any, word: Any) -> Any:
    """Count the bits of a word that are set: one instruction of the processor."""

    def code(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return word(word), code


def _nearest(
    codes: Any, query: Any, allowed: Any, count: int, distances: Any, places: Any, found: Any
) -> int:
    """Write the `count` nearest rows of one query and their distances; returns how many there are.

    Args:
        codes: [N, W] words.
        query: [W].
        allowed: [N] rows that may be found; empty: all.
        count: rows wanted.
        distances: [N] uint16, to work in.
        places: [C] int64, to be filled with rows, rising.
        found: [C] float32, likewise with their distances.
    """
    words = codes.shape[1]
    far = words * codes.itemsize * 8 + 1
    numbers = np.zeros(far + 1, np.int64)
    for row in range(codes.shape[0]):
        distance = far
        if not len(allowed) or allowed[row]:
            distance = 0
            for word in range(words):
                distance += np.int64(ones(codes[row, word] ^ query[word]))
        distances[row] = distance
        numbers[distance] += 1
    limit, left = 0, count
    while limit < far and numbers[limit] < left:
        left -= numbers[limit]
        limit += 1
    if limit == far:
        left = 0
    held = 0
    for row in range(codes.shape[0]):
        distance = distances[row]
        if distance > limit or (distance == limit and left == 0):
            continue
        if distance == limit:
            left -= 1
        places[held], found[held] = row, distance
        held += 1
    return held


ones: Any = _ones
nearest: Any = numba.njit(cache=True, nogil=True)(_nearest)


class BitRows:
    """Rows of bits.

    Args:
        codes: [N, bytes] uint8, may be memory-mapped.
    """

    def __init__(self, codes: npt.NDArray[np.uint8]) -> None:
        self._codes = self._words(codes)

    def __len__(self) -> int:
        return len(self._codes)

    def nearest(
        self, queries: npt.NDArray[np.uint8], count: int, allowed: Mask | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return distances and rows, both [Q, C], of the nearest allowed rows, in no order.

        Args:
            queries: [Q, bytes].
            count: candidates C a query, at most as many as are allowed.
            allowed: rows [N] that may be found; all if None.
        """
        found = np.empty((len(queries), count), np.float32)
        rows = np.empty((len(queries), count), np.int64)
        room = np.empty(len(self), np.uint16)
        passes = _EVERY if allowed is None else np.ascontiguousarray(allowed)
        for at, query in enumerate(self._words(queries)):
            nearest(self._codes, query, passes, count, room, rows[at], found[at])
        return found, rows

    @staticmethod
    def _words(codes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return the bytes as long words, where they fill these."""
        return codes.view(np.uint64) if codes.shape[1] % 8 == 0 else codes
