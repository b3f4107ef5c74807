"""Batches side by side on a CPU: threads that share one batch wait for each other at every step.

Two threads on one batch lose an eighth of two idle cores, and half of them when anything else runs
there; two threads with a batch each lose neither (docs/decisions/036-a-batch-a-core.md).
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from raybert.devices import set_threads

MOST_LANES = 16
"""Python runs one thread at a time between operations: more lanes would queue for it."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def lane_count() -> int:
    """Return how many batches run side by side: one for each thread that torch has, up to 16."""
    return min(torch.get_num_threads(), MOST_LANES)


def side_by_side(run: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Apply `run` to items, several at once; results in the order of the items.

    One alone has all threads.

    Args:
        run: must be safe to call from several threads.
        items: what to apply it to.

    Yields:
        what `run` returned; its exception, if it raised one, and then no more.
    """
    if len(items) > 1:
        yield from _lanes(lane_count(), torch.get_num_threads(), os.getpid()).map(run, items)
    else:
        yield from map(run, items)


@functools.lru_cache(maxsize=4)
def _lanes(count: int, threads: int, process: int) -> ThreadPoolExecutor:
    """Return the lanes of this process, with torch's threads shared out among them."""
    started = threading.Barrier(count + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread that never asked would take the process's number later
        set_threads(threads // count)
        started.wait()

    lanes = ThreadPoolExecutor(count, "raybert-lane", initializer=start)
    for _ in range(count):
        lanes.submit(int)
    started.wait()
    # torch also keeps the number for threads that start later: give it back.
    set_threads(threads)
    return lanes
