"""What training is worth: held-out questions before and after, seed by seed.

    python tests/benchmarks/quality_training.py --model MODEL --data SECTIONS.parquet --seeds 1 2 3

The data has the columns query, document and split: `train` is learnt from, `dev` is held out. Held
out queries are asked of all held-out documents and some of the others. MultipleNegativesRanking
loss on pairs, nothing else; nDCG@10.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raybert.devices import cpu_count, set_threads
from raybert.encoders import DenseEncoder
from raybert.evaluation import InformationRetrievalEvaluator
from raybert.tracking import Run
from raybert.tracking.store import NullStore
from raybert.training import Job, TrainingSettings, open_data, train_job

METRIC = "ndcg@10"
Pairs = list[tuple[str, str]]


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--data", type=Path, required=True, help="Parquet file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--max-seq-length", type=int, default=64)
    parser.add_argument("--distractors", type=int, default=700)
    return parser.parse_args()


def pairs_of(path: Path, split: str) -> Pairs:
    """Return the (query, document) pairs of a split."""
    table = pq.read_table(path, columns=["query", "document", "split"])
    rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    return [(query, document) for query, document, part in rows if part == split]


def held_out(pairs: Pairs, others: Pairs, distractors: int) -> InformationRetrievalEvaluator:
    """Return what measures retrieval; a query asked twice has two answers, equal texts are one."""
    texts = dict.fromkeys(document for _, document in pairs)
    texts |= dict.fromkeys(document for _, document in random.Random(0).sample(others, distractors))
    ids = {text: str(number) for number, text in enumerate(texts)}
    relevant: dict[str, dict[str, float]] = {}
    for query, document in pairs:
        relevant.setdefault(query, {})[ids[document]] = 1.0
    queries = {str(number): query for number, query in enumerate(relevant)}
    return InformationRetrievalEvaluator(
        queries,
        {number: text for text, number in ids.items()},
        {number: relevant[query] for number, query in queries.items()},
    )


def measured(evaluator: InformationRetrievalEvaluator, folder: str, length: int) -> float:
    """Return a model's nDCG@10."""
    encoder = DenseEncoder(folder, device="cpu")
    encoder.max_seq_length = length
    metrics = evaluator(encoder)
    return next(value for name, value in metrics.items() if name.endswith(METRIC))


def trained(options: argparse.Namespace, train: Pairs, seed: int, scratch: str) -> str:
    """Train with a seed; returns where the model lies."""
    chosen = random.Random(seed).sample(train, min(len(train), options.steps * options.batch * 2))
    table = pa.table({"anchor": [q for q, _ in chosen], "positive": [d for _, d in chosen]})
    pq.write_table(table, f"{scratch}/rows-{seed}.parquet")
    settings = {
        "out": f"{scratch}/model-{seed}",
        "tracking_uri": "none",
        "model": options.model,
        "data": {"files": [f"{scratch}/rows-{seed}.parquet"]},
        "batch": {"size": options.batch},
        "schedule": {"max_steps": options.steps, "learning_rate": options.learning_rate},
        "scale": {"device": "cpu", "threads": cpu_count()},
        "max_seq_length": options.max_seq_length,
        "seed": seed,
    }
    job = Job(TrainingSettings.model_validate(settings), "dense")
    train_job(job, open_data(job.settings.data), Run(NullStore(), None))
    return f"{scratch}/model-{seed}"


def main() -> None:
    """Measure, train and measure again."""
    options = parsed()
    set_threads(cpu_count())
    train, dev = pairs_of(options.data, "train"), pairs_of(options.data, "dev")
    evaluator = held_out(dev, train, options.distractors)
    before = measured(evaluator, options.model, options.max_seq_length)
    print(f"{len(dev)} held-out pairs, {METRIC} before: {before:.4f}", flush=True)
    gains = []
    for seed in options.seeds:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            folder = trained(options, train, seed, scratch)
            seconds = time.monotonic() - began
            after = measured(evaluator, folder, options.max_seq_length)
        gains.append(after - before)
        print(
            f"seed {seed}: {options.steps} steps of {options.batch} pairs in {seconds:.0f} s, "
            f"after: {after:.4f} ({after - before:+.4f})",
            flush=True,
        )
    print(f"mean gain {statistics.mean(gains):+.4f}, least {min(gains):+.4f}")


if __name__ == "__main__":
    main()
