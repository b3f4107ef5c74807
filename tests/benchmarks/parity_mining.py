"""Mining against sentence-transformers: the same pairs, however the work is cut.

    python tests/benchmarks/parity_mining.py --vectors FILE.npy --queries FILE.npy --rows 5000

Real embeddings, row by row pairs, laid out in 1, 2 and 5 shards and compared by 1 and 2 workers:
twenty settings of hard negatives, paraphrases, communities and semantic search. A line a cut: how
many settings agree, how many places differ, all of them between scores that tie, and by how much
scores differ at most.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from bench_mining import Written, unit  # type: ignore[import-not-found]
from datasets import Dataset
from sentence_transformers import util

from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.corpus.clusters import joined_communities
from raybert.corpus.joined import joined_neighbours, joined_pairs
from raybert.corpus.negatives import joined_negatives
from raybert.corpus.search import Join
from raybert.index.source import Embeddings
from raybert.mining import NegativeRules, Positives

GRID: list[dict[str, Any]] = [
    {},
    {"num_negatives": 1},
    {"num_negatives": 7},
    {"range_min": 4},
    {"range_min": 3, "range_max": 40},
    {"range_max": 8, "num_negatives": 6},
    {"range_max": 100, "num_negatives": 50},
    {"max_score": 0.5},
    {"max_score": 0.35, "num_negatives": 5},
    {"min_score": 0.4},
    {"min_score": 0.3, "max_score": 0.55},
    {"absolute_margin": 0.0},
    {"absolute_margin": 0.1},
    {"absolute_margin": 0.25, "range_min": 2},
    {"relative_margin": 0.05},
    {"relative_margin": 0.2, "num_negatives": 10},
    {"relative_margin": 0.05, "absolute_margin": 0.05},
    {"relative_margin": 0.1, "max_score": 0.5, "min_score": 0.2},
    {"relative_margin": 0.05, "range_min": 5, "range_max": 25, "num_negatives": 4},
    {"include_positives": True, "num_negatives": 5},
]
TIE = 2e-6
"""Scores nearer than this tie: two sums of 384 float32 products in another order."""
Lists = dict[int, tuple[list[int], list[float]]]


def their_negatives(queries: Any, corpus: Any, rules: dict[str, Any]) -> Lists:
    """Return rows and scores of the oracle's negatives by query, positive's score first."""
    count = len(corpus)
    texts, anchors = [f"t{row}" for row in range(count)], [f"a{row}" for row in range(count)]
    dataset = Dataset.from_dict({"anchor": anchors, "positive": texts})
    mined = util.mine_hard_negatives(
        dataset,
        Written(queries, corpus),
        corpus=texts,
        output_format="n-tuple",
        output_scores=True,
        verbose=False,
        **rules,
    )
    names = [name for name in mined.column_names if name.startswith("negative")]
    return {
        int(row["anchor"][1:]): ([int(row[name][1:]) for name in names], row["scores"])
        for row in mined
    }


def our_negatives(sides: tuple[Embeddings, Embeddings], rules: Any, out: str, n: int) -> Lists:
    """Return the same of ours, read off a join."""
    rows = np.arange(sides[0].rows)
    positives = Positives.of(rows, rows, len(rows))
    mined = joined_negatives(*sides, positives, NegativeRules(**rules), out, workers=n)
    full = np.flatnonzero((mined.rows >= 0).all(axis=1))
    scores = np.column_stack([mined.positive_scores, mined.scores])
    return {row: (mined.rows[row].tolist(), scores[row].tolist()) for row in full.tolist()}


def compared(ours: Lists, theirs: Lists) -> tuple[int, int, float]:
    """Return queries that only one side has, places that differ, the greatest difference.

    Raises:
        SystemExit: other rows at a place, though the scores do not tie.
    """
    swapped, worst = 0, 0.0
    for query in ours.keys() & theirs.keys():
        mine, other = np.array(ours[query][1]), np.array(theirs[query][1])
        worst = max(worst, float(np.abs(mine - other).max()))
        for place, (a, b) in enumerate(zip(ours[query][0], theirs[query][0], strict=True)):
            if a != b:
                if abs(mine[place - len(mine) + 1] - other[place - len(mine) + 1]) > TIE:
                    raise SystemExit(f"query {query}: row {a} against {b}, and no tie")
                swapped += 1
    return len(ours.keys() ^ theirs.keys()), swapped, worst


def as_lists(rows: Any, scores: Any) -> Lists:
    """Return neighbours as negatives are told: first a score in the positive's place."""
    return {at: (r, [0.0, *s]) for at, (r, s) in enumerate(zip(rows, scores, strict=True))}


def write(folder: Path, vectors: Any, shards: int) -> Embeddings:
    """Write vectors as embeddings of some shards, ids in the order of rows."""
    own, written = Folder(folder), []
    for at, rows in enumerate(np.array_split(np.arange(len(vectors)), shards)):
        flat = pa.array(vectors[rows].reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        table = pa.table({"id": [f"{row:07d}" for row in rows], "vector": column})
        written.append(write_table(own, f"shards/{at:05d}.parquet", table))
    model = Input(kind="model", uri="model", fingerprint="model")
    write_manifest(own, Manifest(kind="embeddings", shards=tuple(written), inputs=(model,)))
    return Embeddings.open(str(folder))


def expectations(queries: Any, corpus: Any) -> dict[str, Any]:
    """Return all that the oracle finds."""
    hits = util.semantic_search(torch.from_numpy(queries), torch.from_numpy(corpus), top_k=10)
    return {
        "negatives": [their_negatives(queries, corpus, rules) for rules in GRID],
        "paraphrases": util.paraphrase_mining_embeddings(torch.from_numpy(corpus)),
        "communities": util.community_detection(torch.from_numpy(corpus), 0.7, 4),
        "search": as_lists(
            [[hit["corpus_id"] for hit in found] for found in hits],
            [[hit["score"] for hit in found] for found in hits],
        ),
    }


def judged(
    sides: tuple[Embeddings, Embeddings], workers: int, known: dict[str, Any], out: str
) -> Iterator[str]:
    """Yield what is to be said of one cut."""
    each = [
        compared(our_negatives(sides, rules, f"{out}/{at}", workers), theirs)
        for at, (rules, theirs) in enumerate(zip(GRID, known["negatives"], strict=True))
    ]
    lost, swapped = sum(one for one, _, _ in each), sum(ties for _, ties, _ in each)
    total = sum(len(theirs) for theirs in known["negatives"])
    worst = max(far for _, _, far in each)
    yield f"{len(each)} settings, {total:,} queries: {lost} more or fewer, "
    yield f"{swapped} places differ at ties, scores by {worst:.1e}"

    place = sides[1].folder.uri
    pairs = joined_pairs(Join.open(place, place, out, 101, "cosine"), 500_000, workers)
    theirs = {(left, right): score for score, left, right in known["paraphrases"]}
    ours = dict(
        zip(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True), pairs.scores, strict=True)
    )
    apart = max(abs(ours[pair] - theirs[pair]) for pair in ours.keys() & theirs.keys())
    yield f"; {len(ours):,} paraphrases, {len(ours.keys() ^ theirs.keys())} differ, by {apart:.1e}"

    found = joined_communities(sides[1], 0.7, 4, workers)
    same = [set(rows) for rows in found] == [set(rows) for rows in known["communities"]]
    yield f"; {len(found)} communities {'equal' if same else 'DIFFER'}"
    near = joined_neighbours(Join.open(sides[0].folder.uri, place, out, 10, "cosine"), workers)
    said = compared(as_lists(near.orders.tolist(), near.scores.tolist()), known["search"])
    yield f"; search: {said[1]} places differ at ties, by {said[2]:.1e}"


def main() -> None:
    """Compare and print a line a cut."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", required=True, help="NumPy file [rows, width]: the corpus")
    parser.add_argument("--queries", required=True, help="NumPy file of the anchors")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    queries, corpus = unit(given.queries, given.rows), unit(given.vectors, given.rows)
    started = time.perf_counter()
    known = expectations(queries, corpus)
    print(f"{given.rows} rows; the oracle took {time.perf_counter() - started:.0f} s", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for shards, workers in product(given.shards, given.workers):
            folder, started = Path(scratch) / f"{shards}-{workers}", time.perf_counter()
            sides = tuple(
                write(folder / name, vectors, shards)
                for name, vectors in (("queries", queries), ("corpus", corpus))
            )
            with contextlib.redirect_stdout(io.StringIO()):
                said = "".join(judged(sides, workers, known, str(folder / "out")))  # type: ignore[arg-type]
            spent = time.perf_counter() - started
            print(f"{shards} shards, {workers} workers ({spent:.0f} s): {said}", flush=True)


if __name__ == "__main__":
    main()
