"""Training speed against the reference trainers: same model, rows, batch and cores.

    python tests/benchmarks/bench_training.py --model MODEL --data PAIRS.parquet --steps 8
    python tests/benchmarks/bench_training.py --model MODEL --data LABELLED.parquet --family cross
    python tests/benchmarks/bench_training.py --model MODEL --data PAIRS.parquet --workers 1 2

Dense: two text columns, MultipleNegativesRankingLoss. Cross: two text columns and a label,
BinaryCrossEntropyLoss. Each round runs in a process of its own, in turn; medians over the rounds
are compared, model loading left out of the seconds and in the peak memory. With `--workers`
raybert is compared with itself, a thread each, on Ray; their start is left out. `--workers 1 2 1 2
1 2` takes turns: each ratio is to the run of one worker before it, the last lines are medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from raybert.devices import cpu_count, set_threads

LOSSES = {"dense": "MultipleNegativesRankingLoss", "cross": "BinaryCrossEntropyLoss"}


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--data", type=Path, required=True, help="Parquet file")
    parser.add_argument("--family", choices=list(LOSSES), default="dense")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-seq-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    parser.add_argument("--only", choices=list(RUNS), help=argparse.SUPPRESS)
    return parser.parse_args()


def job(options: argparse.Namespace, scratch: str, **scale: Any) -> Any:
    """Return raybert's job."""
    from raybert.training import Job, TrainingSettings

    settings = {
        "out": f"{scratch}/model",
        "tracking_uri": "none",
        "model": options.model,
        "data": {"files": [str(options.data)]},
        "loss": {"name": LOSSES[options.family]},
        "batch": {"size": options.batch, "sampler": "batch_sampler"},
        "schedule": {"max_steps": options.steps},
        "saving": {"every": options.steps + 1, "log_every": 2},
        "scale": {"device": "cpu", **scale},
        "max_seq_length": options.max_seq_length,
    }
    opening = {"num_labels": 1} if options.family == "cross" else {}
    return Job(TrainingSettings.model_validate(settings), options.family, opening)


def ours(options: argparse.Namespace) -> float:
    """Return raybert's seconds."""
    from raybert.training import make_training, train

    with tempfile.TemporaryDirectory() as scratch:
        training = make_training(job(options, scratch))
        start = time.perf_counter()
        train(training)
        return time.perf_counter() - start


def oracle(options: argparse.Namespace) -> float:
    """Return the reference's seconds."""
    import datasets
    import sentence_transformers as st
    from sentence_transformers import cross_encoder
    from sentence_transformers.cross_encoder import losses as cross_losses
    from sentence_transformers.sentence_transformer import losses

    dense = options.family == "dense"
    kind: Any = st.SentenceTransformer if dense else cross_encoder.CrossEncoder
    model = kind(options.model, device="cpu", **({} if dense else {"num_labels": 1}))
    model.max_seq_length = options.max_seq_length
    arguments: Any = (
        st.SentenceTransformerTrainingArguments
        if dense
        else cross_encoder.CrossEncoderTrainingArguments
    )
    trainer: Any = st.SentenceTransformerTrainer if dense else cross_encoder.CrossEncoderTrainer
    loss = (
        losses.MultipleNegativesRankingLoss(model)
        if dense
        else cross_losses.BinaryCrossEntropyLoss(model)
    )
    with tempfile.TemporaryDirectory() as scratch:
        made = trainer(
            model=model,
            args=arguments(
                output_dir=scratch,
                per_device_train_batch_size=options.batch,
                max_steps=options.steps,
                learning_rate=2e-5,
                report_to=[],
                save_strategy="no",
                logging_steps=2,
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset(pq.read_table(options.data)),
            loss=loss,
        )
        start = time.perf_counter()
        made.train()
        return time.perf_counter() - start


RUNS = {"sentence-transformers": oracle, "raybert": ours}


def measured(name: str) -> dict[str, float]:
    """Run one round in a process of its own; its seconds and its peak memory in MB."""
    done = subprocess.run(
        [sys.executable, *sys.argv, "--only", name], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def beside_the_reference(options: argparse.Namespace) -> None:
    """Print the table of raybert beside the reference."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for _ in range(options.rounds):
        for name, found in rounds.items():
            found.append(measured(name))
            print(f"{name}: {found[-1]['seconds']:.2f} s", flush=True)
    middle = {
        name: {key: statistics.median(each[key] for each in found) for key in found[0]}
        for name, found in rounds.items()
    }
    known = middle["sentence-transformers"]
    print(
        f"{options.family}: {options.steps} steps of {options.batch} rows, at most "
        f"{options.max_seq_length} tokens a text, {options.threads} threads"
    )
    print(f"{'':24} {'seconds':>8} {'rows/s':>8} {'ratio':>6} {'peak MB':>8} {'ratio':>6}")
    for name, own in middle.items():
        rate = options.steps * options.batch / own["seconds"]
        print(
            f"{name:24} {own['seconds']:8.2f} {rate:8.1f} {known['seconds'] / own['seconds']:6.2f} "
            f"{own['peak']:8.0f} {own['peak'] / known['peak']:6.2f}"
        )


def beside_itself(options: argparse.Namespace) -> None:
    """Print the table of one worker and of several."""
    from raybert.tracking import Run
    from raybert.tracking.store import NullStore
    from raybert.training import open_data, train_job

    print(f"{'workers':>8} {'rows/s':>8} {'ratio':>6}")
    found: dict[int, list[float]] = {}
    ratios: dict[int, list[float]] = {}
    for workers in options.workers:
        with tempfile.TemporaryDirectory() as scratch:
            made = job(options, scratch, workers=workers, threads=1)
            data = open_data(made.settings.data)
            outcome = train_job(made, data, Run(NullStore(), None))
        rates = [rate for _, rate in outcome.history["pairs_per_second"][1:]]
        found.setdefault(workers, []).append(statistics.median(rates))
        ratio = found[workers][-1] / found[options.workers[0]][-1]
        ratios.setdefault(workers, []).append(ratio)
        print(f"{workers:8} {found[workers][-1]:8.1f} {ratio:6.2f}", flush=True)
    middle = {workers: statistics.median(rates) for workers, rates in found.items()}
    for workers, rate in middle.items():
        print(
            f"medians of {len(found[workers])}, {workers}: {rate:.1f} rows/s, "
            f"{rate / middle[options.workers[0]]:.2f} of the first's; "
            f"ratio of a turn {statistics.median(ratios[workers]):.2f}"
        )


def main() -> None:
    """Measure and print the table."""
    options = parsed()
    if options.only:
        set_threads(options.threads)
        before = time.process_time()
        seconds = RUNS[options.only](options)
        used = time.process_time() - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "processor": used, "peak": peak}))
    elif options.workers:
        beside_itself(options)
    else:
        beside_the_reference(options)


if __name__ == "__main__":
    main()
