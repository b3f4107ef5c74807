"""Bitext mining on real translations: F1 by margin, by brute force, and by the cosine alone.

    python tests/benchmarks/bench_bitext.py --corpus FILE.parquet --source en --target xx \
        --where lang=de --model MODEL --pairs 1000

Sides are shuffled, and of each side 30% have no partner: F1 as BUCC judges, at the best threshold
of a half of the known pairs, told on the other half.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raybert.encoders import DenseEncoder
from raybert.mining import best_threshold, mine_bitext
from raybert.mining.bitext import Bitext

ALONE = 0.3


def read_pairs(given: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return translations that stand once on either side and are short enough."""
    table = pq.read_table(given.corpus)
    for condition in given.where:
        name, _, value = condition.partition("=")
        table = table.filter(pc.equal(table[name], value))
    pairs: dict[str, str] = {}
    for source, target in zip(
        table[given.source].to_pylist(), table[given.target].to_pylist(), strict=True
    ):
        if source and target and 10 <= len(source) <= given.chars and source != target:
            pairs.setdefault(source, target)
    unique = {target: source for source, target in pairs.items()}
    return list(unique.values()), list(unique)


def two_heaps(count: int, rng: Any) -> tuple[Any, Any, set[tuple[int, int]]]:
    """Choose which sentences lie in each heap, in what order, and which of them belong together."""
    alone = int(count * ALONE)
    both = np.arange(count - alone)
    sources = rng.permutation(np.concatenate([both, np.arange(count - alone, count)]))
    targets = rng.permutation(np.concatenate([both, np.arange(count, count + alone)]))
    places = {pair: at for at, pair in enumerate(targets.tolist())}
    gold = {(at, places[pair]) for at, pair in enumerate(sources.tolist()) if pair in places}
    return sources, targets, gold


def by_brute_force(sources: Any, targets: Any) -> Bitext:
    """Score every pair by the ratio margin, and take pairs from the best down, each side once."""
    left, right = (
        side.astype(np.float64) / np.linalg.norm(side, axis=1, keepdims=True)
        for side in (sources, targets)
    )
    cosines = left @ right.T
    ahead, back = (np.sort(side, axis=1)[:, -4:].mean(axis=1) for side in (cosines, cosines.T))
    scores = cosines / ((ahead[:, None] + back[None]) / 2)
    order = np.argsort(-scores, axis=None)
    rows, columns = np.unravel_index(order, scores.shape)
    used: tuple[set[int], set[int]] = (set(), set())
    kept = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if row not in used[0] and column not in used[1]:
            used[0].add(row)
            used[1].add(column)
            kept.append((scores[row, column], row, column))
    found = [np.array(values) for values in zip(*kept, strict=True)]
    return Bitext(found[0], found[1], found[2])


def f1(pairs: Bitext, gold: set[tuple[int, int]]) -> tuple[float, float]:
    """Return F1 at the threshold that is best on half of the sources, told on the other half."""
    halves = []
    for rest in (0, 1):
        mine = pairs.sources % 2 == rest
        part = Bitext(pairs.scores[mine], pairs.sources[mine], pairs.targets[mine])
        halves.append((part, {pair for pair in gold if pair[0] % 2 == rest}))
    threshold = best_threshold(*halves[0])[0]
    found, true = halves[1][0].above(threshold), halves[1][1]
    hits = len(true & set(zip(found.sources.tolist(), found.targets.tolist(), strict=True)))
    return 200 * hits / (len(found.scores) + len(true)), 100 * best_threshold(pairs, gold)[1]


def main() -> None:
    """Encode, mine and print a line a way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="Parquet file with a translation a row")
    parser.add_argument("--source", required=True, help="column of the one language")
    parser.add_argument("--target", required=True, help="column of the other")
    parser.add_argument("--where", nargs="*", default=[], help="rows to take: COLUMN=VALUE")
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--chars", type=int, default=120, help="longest source sentence")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    texts = read_pairs(given)
    count = min(given.pairs, int(len(texts[0]) / (1 + ALONE)))
    drawn = rng.permutation(len(texts[0]))[: count + int(count * ALONE)]
    heaps = two_heaps(count, rng)
    encoder = DenseEncoder(given.model, device="cpu")
    started = time.perf_counter()
    sources, targets = (
        encoder.encode([side[drawn[at]] for at in heap.tolist()], prompt_name="query")
        for side, heap in zip(texts, heaps[:2], strict=True)
    )
    spent = time.perf_counter() - started
    print(f"{count} sentences a side, {len(heaps[2])} with a partner; encoded in {spent:.0f} s")
    ways = {
        "ratio margin": mine_bitext(sources, targets),
        "ratio margin, brute force": by_brute_force(sources, targets),
        "distance margin": mine_bitext(sources, targets, margin="distance"),
        "cosine alone": mine_bitext(sources, targets, margin="absolute"),
        "cosine alone, forward": mine_bitext(
            sources, targets, margin="absolute", retrieval="forward"
        ),
    }
    for name, pairs in ways.items():
        held, best = f1(pairs, heaps[2])
        print(f"{name:28} F1 {held:5.1f} by a threshold set on the other half, {best:5.1f} at best")


if __name__ == "__main__":
    main()
