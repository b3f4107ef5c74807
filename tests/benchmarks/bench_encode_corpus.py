"""The encoding job against the same encoder in a bare loop: same texts, same cores, same batches.

    python tests/benchmarks/bench_encode_corpus.py --corpus FILE.parquet --column document

The bare loop's model is loaded before its clock starts; the job's time has the start of its workers
in it, though not of Ray and of the actors that Ray Data keeps in a cluster, so the ratio is lower
than the job's speed on a small corpus. The bare loop runs before the jobs and, without Ray, after
them: they are held against its mean.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from raybert import DenseEncoder
from raybert.artifacts import Folder, fingerprint_folder
from raybert.corpus import (
    Columns,
    Encoding,
    connect,
    cut_into_pieces,
    encode_shards,
    find_files,
    plan_shards,
    scan_corpus,
    scan_pieces,
    share_out,
)
from raybert.corpus.cluster import quiet_data
from raybert.devices import cpu_count, set_threads
from raybert.modules import locate_model

DEMO = Path(__file__).parents[2] / "data" / "demo" / "docs.parquet"


def corpus(source: Path, column: str, rows: int, folder: Path) -> Path:
    """Write the first texts as a corpus with ids."""
    texts = [text for text in pq.read_table(source, columns=[column])[column].to_pylist() if text]
    kept = texts[:rows]
    path = folder / "corpus.parquet"
    pq.write_table(pa.table({"id": [str(n) for n in range(len(kept))], "text": kept}), path)
    return path


def bare_loop(encoding: Encoding, path: Path, rows_per_shard: int) -> tuple[float, float, int]:
    """Encode shard by shard in this process; return (seconds, padding share, tokens)."""
    set_threads(cpu_count())
    encoder = DenseEncoder(encoding.model, device="cpu")
    texts = pq.read_table(path)["text"].to_pylist()
    started = time.perf_counter()
    tokens = computed = 0
    for start in range(0, len(texts), rows_per_shard):
        _, usage = encoder.encode_tokens(encoder.pre(texts[start : start + rows_per_shard]))
        tokens += usage.tokens
        computed += usage.computed_tokens
    return time.perf_counter() - started, 1 - tokens / computed, tokens


def start_ray() -> None:
    """Start Ray, and what Ray Data keeps running for all datasets of a cluster."""
    connect()
    quiet_data()
    pool = ray.data.ActorPoolStrategy(size=1)
    ray.data.range(1).map_batches(_Unchanged, compute=pool, num_cpus=0.1).materialize()


class _Unchanged:
    """A worker that hands on what it gets."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch


def ray_data(
    encoding: Encoding, path: Path, out: Path, rows_per_shard: int, workers: int
) -> tuple[float, float]:
    """Encode with the job's own steps; return (seconds in all, seconds from the first shard on)."""
    started = time.perf_counter()
    pieces = cut_into_pieces(find_files([str(path)]))
    plan = plan_shards(
        Folder(out), scan_corpus(pieces, Columns(), scan_pieces), encoding.context, rows_per_shard
    )
    seconds = [
        receipt.seconds
        for receipt in encode_shards(plan, Folder(out), encoding, Columns(), workers)
    ]
    total = time.perf_counter() - started
    return total, sum(seconds) / workers


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=DEMO, help="Parquet file with texts")
    parser.add_argument("--column", default="text")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rows-per-shard", type=int, default=1024)
    parser.add_argument("--workers", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    model = locate_model(arguments.model)
    encoding = Encoding(str(model), fingerprint_folder(model), device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        path = corpus(arguments.corpus, arguments.column, arguments.rows, Path(scratch))
        rows = pq.read_metadata(path).num_rows
        before, padding, tokens = bare_loop(encoding, path, arguments.rows_per_shard)
        print(f"{rows} texts, {tokens} tokens, padding {padding:.1%}, {cpu_count()} cores")
        jobs: dict[str, float] = {}
        start_ray()
        for wanted in arguments.workers:
            workers, threads = share_out(wanted, "cpu")
            used = Encoding(
                encoding.model, encoding.model_fingerprint, device="cpu", threads=threads
            )
            out = Path(scratch) / f"out-{workers}"
            total, _ = ray_data(used, path, out, arguments.rows_per_shard, workers)
            jobs[f"Ray Data, {workers} x {threads} thread(s)"] = total
        ray.shutdown()
        after, _, _ = bare_loop(encoding, path, arguments.rows_per_shard)
        bare = (before + after) / 2
        print(f"{'':34} {'seconds':>8} {'docs/s':>8} {'tokens/s':>9} {'ratio':>6}")
        loops = {"bare encoder loop, before": before, "bare encoder loop, after": after}
        for name, seconds in (loops | jobs).items():
            print(
                f"{name:34} {seconds:8.1f} {rows / seconds:8.0f} {tokens / seconds:9.0f} "
                f"{bare / seconds:6.2f}"
            )


if __name__ == "__main__":
    main()
