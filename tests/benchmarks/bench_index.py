"""Index kinds side by side: recall, time, memory; flat against raw FAISS, binary against flat.

    python tests/benchmarks/bench_index.py --embeddings VECTORS.npy --queries 1000
    python tests/benchmarks/bench_index.py --rows 1000000 --kinds flat binary --queries 50 --batch 1

Vectors are read from a file [N, D], the last `--queries` of them held out as queries, or drawn at
random in loose groups. All kinds answer the same queries, in rounds that take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.index import KINDS, Index, build_index, open_index
from raybert.index.metric import METRICS

TOP_K = 10


def vectors(arguments: argparse.Namespace) -> Any:
    """Return all vectors, queries last."""
    if arguments.embeddings:
        return np.load(arguments.embeddings, mmap_mode="r")
    draw = np.random.default_rng(0)
    rows = arguments.rows + arguments.queries
    centres = draw.standard_normal((2000, arguments.width), dtype=np.float32)
    noise = draw.standard_normal((rows, arguments.width), dtype=np.float32)
    return centres[draw.integers(0, 2000, rows)] + noise


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


def timed(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return each contender's median seconds; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--embeddings", type=Path, help="NumPy file of vectors [N, D]")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument(
        "--kinds", nargs="+", default=[kind for kind in KINDS if KINDS[kind].reads == "dense"]
    )
    parser.add_argument("--batch", type=int, default=0, help="queries at once; 0: all")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    """Build every kind, let them take turns, print the table."""
    arguments = parsed()
    every = vectors(arguments)
    corpus, asked = every[: -arguments.queries], every[-arguments.queries :]
    queries = METRICS["cosine"].prepare(asked)
    raw = faiss.IndexFlatIP(corpus.shape[1])
    raw.add(METRICS["cosine"].prepare(corpus))
    _, exact = raw.search(queries, TOP_K)
    with tempfile.TemporaryDirectory() as scratch:
        write_embeddings(corpus, Folder(f"{scratch}/embeddings"))
        indexes: dict[str, Index] = {}
        for kind in arguments.kinds:
            build_index(f"{scratch}/embeddings", f"{scratch}/{kind}", kind=kind)
            indexes[kind] = open_index(f"{scratch}/{kind}")
        size = arguments.batch or len(queries)
        parts = [queries[at : at + size] for at in range(0, len(queries), size)]
        contenders: dict[str, Callable[[], Any]] = {
            "raw FAISS": lambda: [raw.search(part, TOP_K) for part in parts]
        }
        for kind, index in indexes.items():
            contenders[kind] = lambda index=index: [  # type: ignore[misc]
                index.search(part, TOP_K) for part in parts
            ]
        seconds = timed(contenders, arguments.rounds)
        print(
            f"{len(corpus):,} x {corpus.shape[1]}, {len(queries):,} queries, "
            f"{size} at once, top {TOP_K}"
        )
        print("| kind | effort | recall@10 | queries/s | x raw | bytes | on disk | build s |")
        print("|---|---|---|---|---|---|---|---|")
        base = seconds["raw FAISS"]
        print(f"| raw FAISS | | 1.0000 | {len(queries) / base:,.0f} | 1.00 | | | |")
        for kind, index in indexes.items():
            details = index.manifest.details
            print(
                f"| {kind} | {index.effort} | {found_share(index, queries, exact):.4f} "
                f"| {len(queries) / seconds[kind]:,.0f} | {base / seconds[kind]:.2f} "
                f"| {details['bytes_per_vector']:.0f} | {details['stored_bytes_per_vector']:.0f} "
                f"| {details['build_seconds']:.0f} |"
            )


if __name__ == "__main__":
    main()
