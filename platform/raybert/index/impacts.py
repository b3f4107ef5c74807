"""The search of an inverted file, compiled by Numba: one query, exact, by MaxScore in windows.

Rows are searched window by window. In each window a term's part of the score is bounded by its
weight times the greatest impact it has there; the terms whose bounds together cannot reach the
K-th score found so far are only looked up for the rows that the others bring up (Turtle and Flood
1995; with bounds for each block of rows: Ding and Suel, SIGIR 2011). Sums are float64, rounded to
float32 once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raybert.devices import compiled

WINDOW = 16384
"""Rows a window; their sums stay in a core's own cache."""
SLACK = 1.0 + 1e-9
"""What a float64 bound may be off by rounding."""
LEAST = 1e-300
"""A row whose sum is less has no term of the query."""


def _is_worse(score: Any, row: Any, other_score: Any, other_row: Any) -> bool:
    return bool(score < other_score or (score == other_score and row > other_row))


def _sift_down(scores: Any, rows: Any, held: int) -> None:
    """Put the first entry of a heap, whose worst entry is first, into its place."""
    score, row, at = scores[0], rows[0], 0
    while True:
        child = 2 * at + 1
        if child >= held:
            break
        if child + 1 < held and is_worse(
            scores[child + 1], rows[child + 1], scores[child], rows[child]
        ):
            child += 1
        if not is_worse(scores[child], rows[child], score, row):
            break
        scores[at], rows[at] = scores[child], rows[child]
        at = child
    scores[at], rows[at] = score, row


def _offer(scores: Any, rows: Any, held: int, score: Any, row: Any) -> int:
    """Give a heap one more entry, or let it replace the worst; returns how many are held."""
    if held == len(scores):
        if is_worse(score, row, scores[0], rows[0]):
            return held
        scores[0], rows[0] = score, row
        sift_down(scores, rows, held)
        return held
    at = held
    while at > 0:
        above = (at - 1) // 2
        if not is_worse(score, row, scores[above], rows[above]):
            break
        scores[at], rows[at] = scores[above], rows[above]
        at = above
    scores[at], rows[at] = score, row
    return held + 1


def _first_from(rows: Any, start: int, end: int, row: int) -> int:
    """Return the first place of rising `rows[start:end]` whose row is at least `row`."""
    if start >= end or rows[start] >= row:
        return start
    while start < end:
        middle = (start + end) // 2
        if rows[middle] < row:
            start = middle + 1
        else:
            end = middle
    return start


def _ranked(order: Any, bounds: Any) -> None:
    """Sort terms by rising bound; from one window to the next little changes."""
    for place in range(1, len(order)):
        term, at = order[place], place
        while at > 0 and bounds[order[at - 1]] > bounds[term]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = term


def _bounded(
    number: int, low: int, high: int, lists: Any, peaks: Any, weights: Any, here: Any, bounds: Any
) -> float:
    """Write what each term may add to a row of a window; returns what all may together."""
    rows, tops, peaks_at = lists
    total = 0.0
    for term in range(len(weights)):
        if peaks_at[term] >= 0:
            bounds[term] = weights[term] * peaks[peaks_at[term] + number]
        else:
            start = first_from(rows, here[term, 0], here[term, 1], low)
            here[term, 0] = start
            near = start < here[term, 1] and rows[start] < high
            bounds[term] = weights[term] * tops[term] if near else 0.0
        total += bounds[term]
    return total


def _added(
    term: int, low: int, high: int, weight: float, postings: Any, here: Any, sums: Any
) -> None:
    """Add one term's part to every row of a window."""
    rows, impacts = postings
    place, end = first_from(rows, here[term, 0], here[term, 1], low), here[term, 1]
    while place < end and rows[place] < high:
        sums[rows[place] - low] += weight * impacts[place]
        place += 1
    here[term, 0] = place


def _completed(
    term: int, low: int, high: int, weight: float, postings: Any, here: Any, sums: Any, kept: Any
) -> None:
    """Add one term's part to the rows kept: by a walk along its list, or by looking each up."""
    rows, impacts = postings
    start = first_from(rows, here[term, 0], here[term, 1], low)
    end = first_from(rows, start, min(here[term, 1], start + high - low), high)
    here[term, 0] = end
    if end - start < 8 * len(kept):
        for place in range(start, end):  # what it adds to other rows is never read
            sums[rows[place] - low] += weight * impacts[place]
        return
    for row in kept:
        place = first_from(rows, start, end, low + row)
        if place < end and rows[place] == low + row:
            sums[row] += weight * impacts[place]


def _reaching(least: float, count: int, low: int, allowed: Any, sums: Any, kept: Any) -> int:
    """Write which of a window's rows may be found and have `least` at least; returns how many."""
    found = 0
    for row in range(count):
        if sums[row] >= least and (not len(allowed) or allowed[low + row]):
            kept[found] = row
            found += 1
    return found


def _still_reaching(least: float, count: int, sums: Any, kept: Any) -> int:
    """Keep of the rows kept those that have `least` at least; returns how many."""
    found = 0
    for place in range(count):
        if sums[kept[place]] >= least:
            kept[found] = kept[place]
            found += 1
    return found


def _search_one(
    count: int,
    postings: Any,
    lists: Any,
    peaks: Any,
    spans: Any,
    weights: Any,
    allowed: Any,
    floor: Any,
    scores: Any,
    rows: Any,
) -> int:
    """Find the best rows of one query.

    Args:
        count: rows of the shard.
        postings: rows (rising within each list) and impacts of all lists.
        lists: the postings' rows once more, then each query term's greatest impact and the place
            of its windows' greatest impacts in `peaks`, -1 where it has none.
        peaks: greatest impacts by window.
        spans: [T, 2] start and end of each query term's list.
        weights: [T] float64 weights of the query, all above 0.
        allowed: [N] which rows may be found; of length 0 where all may.
        floor: a score the K-th is known to reach at least.
        scores: [K] float32, to be filled as a heap.
        rows: [K] int64, likewise.

    Returns:
        How many were found.
    """
    terms, held = len(weights), 0
    here, bounds, order = spans.copy(), np.zeros(terms), np.arange(terms)
    sums, kept = np.zeros(WINDOW), np.zeros(WINDOW, np.int64)
    below = np.zeros(terms + 1)
    for number in range((count + WINDOW - 1) // WINDOW):
        low, high = number * WINDOW, min(count, (number + 1) * WINDOW)
        threshold = max(floor, scores[0]) if held == len(scores) else floor
        threshold = max(threshold, LEAST) / SLACK
        if bounded(number, low, high, lists, peaks, weights, here, bounds) < threshold:
            continue
        ranked(order, bounds)
        for place in range(terms):
            below[place + 1] = below[place] + bounds[order[place]]
        first = 0
        while first < terms and below[first + 1] < threshold:
            first += 1
        for place in range(first, terms):
            if bounds[order[place]] > 0.0:
                added(order[place], low, high, weights[order[place]], postings, here, sums)
        least = max(threshold - below[first], LEAST)
        left = reaching(least, high - low, low, allowed, sums, kept)
        for place in range(first - 1, -1, -1):
            left = still_reaching(threshold - below[place + 1], left, sums, kept)
            if not left:
                break
            term = order[place]
            if bounds[term] > 0.0:
                completed(term, low, high, weights[term], postings, here, sums, kept[:left])
        for row in kept[:left]:
            score = np.float32(sums[row])
            if score >= floor:
                held = offer(scores, rows, held, score, low + row)
        sums[:] = 0.0
    return held


_compiled = compiled()
is_worse: Any = _compiled(_is_worse)
sift_down: Any = _compiled(_sift_down)
offer: Any = _compiled(_offer)
first_from: Any = _compiled(_first_from)
ranked: Any = _compiled(_ranked)
bounded: Any = _compiled(_bounded)
added: Any = _compiled(_added)
completed: Any = _compiled(_completed)
reaching: Any = _compiled(_reaching)
still_reaching: Any = _compiled(_still_reaching)
search_one: Any = _compiled(_search_one)
