"""Rows nearest by Hamming distance, exactly, compiled by Numba: one pass over the rows.

A block of rows is held against every query while it is in the core's cache; for many queries it is
first turned, so that one word of many rows lies together and a processor compares several at once.
A query keeps the rows below a bound, which falls whenever its room is full; of rows at the last
bound the first are taken. Threads share out the rows, not the queries, so one query too has all
cores. Shapes: Q queries, N rows, W words of a row, B rows of a block, C candidates.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import intrinsic

from raybert.devices import compiled, cpu_count
from raybert.index.filters import Mask

_EVERY = np.zeros(0, np.bool_)
_BLOCK = 1024
_TURNED = 4
"""Queries for which it pays to turn a block."""
_SPARE = 512
"""Rows a query has room for beyond twice the candidates, so that the bound seldom falls."""
_ROWS_A_THREAD = 1 << 18
"""Rows times queries that are worth a thread."""


@intrinsic  # type: ignore[untyped-decorator]
def _ones(_: Any, word: Any) -> Any:
    """Count the bits of a word that are set: one instruction of the processor."""

    def code(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return word(word), code


ones: Any = _ones


@compiled()
def compare(block: Any, query: Any, distances: Any) -> None:
    """Write the distances [B] of rows [B, W]."""
    for row in range(len(block)):
        distance = np.uint64(0)
        for word in range(len(query)):
            distance += np.uint64(ones(block[row, word] ^ query[word]))
        distances[row] = distance


@compiled()
def turn(block: Any, turned: Any) -> None:
    """Write rows [B, W] as words [W, B]."""
    for row in range(len(block)):
        for word in range(len(turned)):
            turned[word, row] = block[row, word]


@compiled()
def compare_turned(turned: Any, query: Any, distances: Any) -> None:
    """Write the distances [B] of words [W, B]."""
    distances[:] = 0
    for word in range(len(query)):
        asked, line = query[word], turned[word]
        for row in range(_BLOCK):
            distances[row] += np.uint64(ones(line[row] ^ asked))


@compiled()
def keep_nearest(rows: Any, found: Any, held: int, count: int, numbers: Any) -> Any:
    """Keep the `count` nearest of a query's rows, in their order; returns the new bound.

    Args:
        rows: [>= held], rising.
        found: [>= held] their distances.
        held: rows there, at least `count`.
        count: rows to keep.
        numbers: [distances there are] to work in.
    """
    numbers[:] = 0
    for at in range(held):
        numbers[found[at]] += 1
    bound, left = 0, count
    while numbers[bound] < left:
        left -= numbers[bound]
        bound += 1
    kept = 0
    for at in range(held):
        distance = found[at]
        if distance > bound or (distance == bound and left == 0):
            continue
        if distance == bound:
            left -= 1
        rows[kept], found[kept] = rows[at], distance
        kept += 1
    return np.uint64(bound)


@compiled()
def scan(
    codes: Any, queries: Any, allowed: Any, first: int, count: int, rows: Any, found: Any
) -> Any:
    """Write the `count` nearest rows of every query and their distances, first in their room.

    Args:
        codes: [N, W] words.
        queries: [Q, W].
        allowed: [N] rows that may be found; empty: all.
        first: what the first row is called.
        count: rows wanted.
        rows: [Q, > count] int64, to be filled, rising.
        found: [Q, > count] int64, likewise with their distances.

    Returns:
        [Q] how many there are, at most `count`.
    """
    room, far = rows.shape[1], codes.shape[1] * codes.itemsize * 8
    numbers = np.zeros(far + 1, np.int64)
    held = np.zeros(len(queries), np.int64)
    bounds = np.full(len(queries), far + 1, np.uint64)
    turned = np.zeros((codes.shape[1], _BLOCK), codes.dtype)
    distances = np.zeros(_BLOCK, np.uint64)
    for start in range(0, len(codes), _BLOCK):
        block = codes[start : start + _BLOCK]
        if len(queries) >= _TURNED:
            turn(block, turned)
        for query in range(len(queries)):
            if len(queries) >= _TURNED:
                compare_turned(turned, queries[query], distances)
            else:
                compare(block, queries[query], distances)
            here, bound = held[query], bounds[query]
            for row in range(len(block)):
                if distances[row] < bound and (not len(allowed) or allowed[start + row]):
                    rows[query, here] = first + start + row
                    found[query, here] = distances[row]
                    here += 1
                    if here == room:
                        bound = keep_nearest(rows[query], found[query], here, count, numbers)
                        here = count
            held[query], bounds[query] = here, bound
    for query in range(len(queries)):
        if held[query] > count:
            keep_nearest(rows[query], found[query], held[query], count, numbers)
            held[query] = count
    return held


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
        asked = self._words(queries)
        passes = _EVERY if allowed is None else np.ascontiguousarray(allowed)
        parts = _shared_out(len(queries), len(self))
        rows = np.empty((len(queries), len(parts), 2 * count + _SPARE), np.int64)
        found = np.empty_like(rows)

        def part(at: int) -> Any:
            of = parts[at]
            room = rows[:, at], found[:, at]
            return scan(self._codes[of], asked, passes[of], of.start, count, *room)

        if len(parts) == 1:
            part(0)
            return found[:, 0, :count].astype(np.float32), rows[:, 0, :count]
        with ThreadPoolExecutor(len(parts)) as threads:
            held = np.stack(list(threads.map(part, range(len(parts)))), axis=1)
        return self._joined(rows, found, held, count)

    def _joined(
        self, rows: Any, found: Any, held: Any, count: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return the `count` nearest of what the threads found, of which `held` [Q, threads]."""
        numbers = np.zeros(self._codes.shape[1] * self._codes.itemsize * 8 + 1, np.int64)
        there = np.arange(rows.shape[2]) < held[:, :, None]
        near = np.empty((len(rows), count), np.float32)
        kept = np.empty((len(rows), count), np.int64)
        for query, mask in enumerate(there):
            every, distances = rows[query][mask], found[query][mask]
            keep_nearest(every, distances, len(every), count, numbers)
            kept[query], near[query] = every[:count], distances[:count]
        return near, kept

    @staticmethod
    def _words(codes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return the bytes as long words, where they fill these."""
        return codes.view(np.uint64) if codes.shape[1] % 8 == 0 else codes


def _shared_out(queries: int, rows: int) -> list[slice]:
    """Return the rows of each thread, one thread where that is little work."""
    threads = max(1, min(cpu_count(), queries * rows // _ROWS_A_THREAD))
    ends = [rows * at // threads for at in range(threads + 1)]
    return [slice(*pair) for pair in pairwise(ends)]
