"""Index kinds side by side: recall, time, memory; flat against raw FAISS, binary against flat.

    python tests/benchmarks/bench_index.py --embeddings VECTORS.npy --queries 1000
    python tests/benchmarks/bench_index.py --embeddings VECTORS.npy --rows 1000000 \
        --kinds flat binary --queries 50 --batch 1 50 --in-memory

Vectors are read from a file [N, D], the last `--queries` of them held out as queries. Where more
rows are asked for than it has, each further one is a row of the file moved by the difference of
another row and its nearest neighbour: where the vector of a similar text might lie. All kinds
answer the same queries, in rounds that take turns. With `--in-memory` a kind is one shard without
ids and files, at its middle effort; of times by `--clock cpu` those of all threads are summed.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from raybert.artifacts import Folder, Input, Manifest, finished, write_manifest, write_table
from raybert.index import KINDS, Index, build_index, open_index
from raybert.index.metric import METRICS
from raybert.index.rescoring import Store, stored_vectors
from raybert.vectors import Ranges

TOP_K = 10
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def vectors(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Return the vectors to index and those to ask with."""
    every = np.asarray(np.load(arguments.embeddings), dtype=np.float32)
    corpus, queries = every[: -arguments.queries], every[-arguments.queries :]
    rows = arguments.rows or len(corpus)
    if rows <= len(corpus):
        return corpus[:rows], queries
    draw = np.random.default_rng(0)
    steps = differences(corpus, draw.choice(len(corpus), min(5000, len(corpus)), replace=False))
    grown = np.empty((rows, corpus.shape[1]), np.float32)
    grown[: len(corpus)] = corpus
    for start in range(len(corpus), rows, 50_000):
        count = min(50_000, rows - start)
        moved = corpus[draw.integers(0, len(corpus), count)]
        moved += steps[draw.integers(0, len(steps), count)]
        grown[start : start + count] = moved
    return grown, queries


def differences(corpus: Any, chosen: Any) -> Any:
    """Return what lies between each chosen row and its nearest neighbour."""
    engine = faiss.IndexFlatIP(corpus.shape[1])
    engine.add(METRICS["cosine"].prepare(corpus))
    _, near = engine.search(METRICS["cosine"].prepare(corpus[chosen]), 2)
    other = np.where(near[:, 0] == chosen, near[:, 1], near[:, 0])
    return corpus[chosen] - corpus[other]


def write_embeddings(corpus: Any, folder: Folder) -> None:
    """Write vectors as an embeddings artifact."""
    shards = []
    for at, start in enumerate(range(0, len(corpus), 50_000)):
        block = np.ascontiguousarray(corpus[start : start + 50_000], dtype=np.float32)
        flat = pa.array(block.reshape(-1))
        ids = [f"{row:09d}" for row in range(start, start + len(block))]
        table = pa.table(
            {"id": ids, "vector": pa.FixedSizeListArray.from_arrays(flat, corpus.shape[1])}
        )
        shards.append(write_table(folder, f"shards/{at:05d}.parquet", table))
    model = Input(kind="model", uri="benchmark", fingerprint="benchmark")
    write_manifest(folder, Manifest(kind="embeddings", inputs=(model,), shards=tuple(shards)))


def found_share(index: Index, queries: Any, exact: Any) -> float:
    """Return the share of the exact hits that an index finds."""
    hits = index.search(queries, TOP_K)
    return float(
        np.mean(
            [
                len({hit.id for hit in row} & {f"{at:09d}" for at in rows}) / TOP_K
                for row, rows in zip(hits, exact, strict=True)
            ]
        )
    )


def timed(
    contenders: dict[str, Callable[[], Any]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return each contender's median seconds; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            started = clock()
            run()
            seconds[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--embeddings", type=Path, required=True, help="NumPy file [N, D]")
    parser.add_argument("--rows", type=int, default=0, help="rows to index; 0: those of the file")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument(
        "--kinds", nargs="+", default=[kind for kind in KINDS if KINDS[kind].reads == "dense"]
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[0], help="queries at once; 0: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--in-memory", action="store_true", help="shards without ids and files")
    parser.add_argument("--folder", type=Path, help="keep the indexes there, and use them again")
    return parser.parse_args()


def main() -> None:
    """Build every kind, let them take turns, print the tables."""
    arguments = parsed()
    corpus, asked = vectors(arguments)
    queries = METRICS["cosine"].prepare(asked)
    raw = faiss.IndexFlatIP(corpus.shape[1])
    for start in range(0, len(corpus), 50_000):
        raw.add(METRICS["cosine"].prepare(corpus[start : start + 50_000]))
    _, exact = raw.search(queries, TOP_K)
    if arguments.in_memory:
        in_memory(arguments, raw, queries, exact)
        return
    with contextlib.ExitStack() as stack:
        scratch = arguments.folder or stack.enter_context(tempfile.TemporaryDirectory())
        embeddings = Folder(f"{scratch}/embeddings")
        if finished(embeddings) is None:
            write_embeddings(corpus, embeddings)
        indexes: dict[str, Index] = {}
        for kind in arguments.kinds:
            build_index(embeddings.uri, f"{scratch}/{kind}", kind=kind)
            indexes[kind] = open_index(f"{scratch}/{kind}")
        for size in arguments.batch if arguments.rounds else ():
            compare(raw, indexes, queries, size or len(queries), arguments)
        print(
            "| kind | effort | recall@10 | bytes | on disk | build s |\n|---|---|---|---|---|---|"
        )
        for kind, index in indexes.items():
            details = index.manifest.details
            print(
                f"| {kind} | {index.effort} | {found_share(index, queries, exact):.4f} "
                f"| {details['bytes_per_vector']:.0f} | {details['stored_bytes_per_vector']:.0f} "
                f"| {details['build_seconds']:.0f} |"
            )


def in_memory(arguments: argparse.Namespace, raw: Any, queries: Any, exact: Any) -> None:
    """Compare kinds as single shards over the vectors that raw FAISS holds."""
    metric = METRICS["cosine"]
    vectors = faiss.rev_swig_ptr(raw.get_xb(), raw.ntotal * raw.d).reshape(raw.ntotal, raw.d)
    ranges = Ranges(vectors.min(axis=0), vectors.max(axis=0))
    shards: dict[str, Any] = {}
    for name in arguments.kinds:
        kind = KINDS[name]
        engine = raw if name == "flat" else kind.build(vectors, metric, ranges)
        store = None
        if kind.store not in (None, "none"):
            parts = [vectors[at : at + 50_000] for at in range(0, len(vectors), 50_000)]
            bytes_ = [stored_vectors(part, str(kind.store), ranges) for part in parts]
            store = Store(np.concatenate(bytes_), ranges)
        shards[name] = kind.open(engine, metric, store, {"greatest_norm": 1.000001})
        if kind.efforts:
            shards[name].effort = kind.efforts[len(kind.efforts) // 2]
    for size in arguments.batch:
        compare(raw, shards, queries, size or len(queries), arguments)
    for name, shard in shards.items():
        rows = shard.search(queries, TOP_K).orders
        pairs = zip(rows.tolist(), exact.tolist(), strict=True)
        share = np.mean([len(set(found) & set(best)) / TOP_K for found, best in pairs])
        print(f"{name}, effort {shard.effort}: recall@10 {share:.4f}", flush=True)


def compare(
    raw: Any, indexes: Mapping[str, Any], queries: Any, size: int, arguments: argparse.Namespace
) -> None:
    """Time raw FAISS and every index on the same queries, `size` at once, and print the table."""
    parts = [queries[at : at + size] for at in range(0, len(queries), size)]
    contenders: dict[str, Callable[[], Any]] = {
        "raw FAISS": lambda: [raw.search(part, TOP_K) for part in parts]
    }
    for kind, index in indexes.items():
        contenders[kind] = lambda index=index: [  # type: ignore[misc]
            index.search(part, TOP_K) for part in parts
        ]
    seconds = timed(contenders, arguments.rounds, CLOCKS[arguments.clock])
    print(f"{raw.ntotal:,} x {raw.d}, {len(queries):,} queries, {size} at once, top {TOP_K}")
    print("| search | queries/s | x raw |\n|---|---|---|")
    for name, value in seconds.items():
        ratio = seconds["raw FAISS"] / value
        print(f"| {name} | {len(queries) / value:,.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
