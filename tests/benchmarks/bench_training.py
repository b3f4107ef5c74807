"""Training speed against SentenceTransformerTrainer: same model, rows, batch and cores.

    python tests/benchmarks/bench_training.py --model MODEL --data PAIRS.parquet --steps 20

The data has two text columns. Both train in this process, in turn, round by round; medians over
the rounds are compared, model loading left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from raybert.devices import cpu_count, set_threads
from raybert.training import Job, TrainingSettings, make_training, train


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--data", type=Path, required=True, help="Parquet file of two columns")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-seq-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=cpu_count())
    return parser.parse_args()


def ours(options: argparse.Namespace) -> float:
    """Return raybert's seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainingSettings.model_validate(
            {
                "out": f"{scratch}/model",
                "model": options.model,
                "data": {"files": [str(options.data)]},
                "loss": {"name": "MultipleNegativesRankingLoss"},
                "batch": {"size": options.batch, "sampler": "batch_sampler"},
                "schedule": {"max_steps": options.steps},
                "saving": {"every": options.steps + 1},
                "scale": {"device": "cpu"},
                "max_seq_length": options.max_seq_length,
            }
        )
        training = make_training(Job(settings, "dense"))
        start = time.perf_counter()
        train(training)
        return time.perf_counter() - start


def oracle(options: argparse.Namespace) -> float:
    """Return the reference's seconds."""
    import datasets
    import sentence_transformers as st
    from sentence_transformers.sentence_transformer import losses

    model = st.SentenceTransformer(options.model, device="cpu")
    model.max_seq_length = options.max_seq_length
    with tempfile.TemporaryDirectory() as scratch:
        trainer = st.SentenceTransformerTrainer(
            model=model,
            args=st.SentenceTransformerTrainingArguments(
                output_dir=scratch,
                per_device_train_batch_size=options.batch,
                max_steps=options.steps,
                learning_rate=2e-5,
                report_to=[],
                save_strategy="no",
                logging_steps=10,
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset(pq.read_table(options.data)),
            loss=losses.MultipleNegativesRankingLoss(model),
        )
        start = time.perf_counter()
        trainer.train()
        return time.perf_counter() - start


def main() -> None:
    """Measure and print the table."""
    options = parsed()
    set_threads(options.threads)
    runs: dict[str, Callable[[argparse.Namespace], float]] = {
        "sentence-transformers": oracle,
        "raybert": ours,
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            taken[name].append(run(options))
    known = statistics.median(taken["sentence-transformers"])
    print(f"{options.steps} steps of {options.batch} pairs, {options.threads} threads")
    print(f"{'':24} {'seconds':>8} {'pairs/s':>8} {'ratio':>6}")
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        pairs = options.steps * options.batch / median
        print(f"{name:24} {median:8.2f} {pairs:8.1f} {known / median:6.2f}")


if __name__ == "__main__":
    main()
