"""The training drill: kill -9 at random moments, go on, compare the weights with a clean run's.

    python tests/benchmarks/drill_training.py --kills 5

A small random BERT with dropout trains on the bundled corpus. The driver dies as a process of its
own, and its command is run again; a worker, one of two on Ray, dies beneath a driver that lives.
A line a kill: the step of the last checkpoint then, and whether every weight is equal to the bit.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from raybert.settings import process_environment
from raybert.tracking import Run
from raybert.tracking.store import NullStore
from raybert.training import Job, TrainingSettings, finish_model, open_data, train_job

ROOT = Path(__file__).parents[2]
CHECKPOINT_EVERY = 5
WORDS = 2000


@dataclass(frozen=True, slots=True)
class Drill:
    """The training under test.

    Args:
        folder: scratch space; holds the model and the rows.
        steps: steps of the optimizer.
    """

    folder: Path
    steps: int

    def settings(self, name: str, workers: int) -> TrainingSettings:
        """Return the settings of one training."""
        return TrainingSettings.model_validate(
            {
                "out": str(self.folder / name),
                "tracking_uri": "none",
                "model": str(self.folder / "model"),
                "data": {"files": [str(self.folder / "rows.parquet")]},
                "batch": {"size": 16, "drop_last": True},
                "schedule": {"max_steps": self.steps, "learning_rate": 2e-4},
                "saving": {"every": CHECKPOINT_EVERY},
                "scale": {"workers": workers, "device": "cpu", "threads": 1},
            }
        )

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a training as a process of its own."""
        config = self.folder / f"{name}.yaml"
        config.write_text(self.settings(name, 0).model_dump_json())  # JSON is YAML
        command = [sys.executable, str(ROOT / "pipelines" / "train_dense.py")]
        return subprocess.Popen(
            [*command, "--config", str(config)],
            env=process_environment(PYTHONPATH=str(ROOT / "platform")),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def on_ray(self, name: str) -> None:
        """Train on two workers, in this process's Ray."""
        job = Job(self.settings(name, 2), "dense")
        data = open_data(job.settings.data)
        finish_model(job, data, train_job(job, data, Run(NullStore(), None)))

    def weights(self, name: str) -> str:
        """Return a hash of a trained model's weights."""
        return hashlib.sha256((self.folder / name / "model.safetensors").read_bytes()).hexdigest()

    def last_checkpoint(self, name: str) -> int:
        """Return the step of a training's last checkpoint, 0 without one."""
        found = sorted((self.folder / f"{name}.checkpoints").glob("step-*.pt"))
        return int(found[-1].stem.removeprefix("step-")) if found else 0

    def wait(self, name: str, step: int, lives: Callable[[], bool]) -> int:
        """Wait until a checkpoint of a step is there, and a moment more; its step."""
        while self.last_checkpoint(name) < step and lives():
            time.sleep(0.01)
        time.sleep(random.random() / 4)
        return self.last_checkpoint(name)


def prepare(folder: Path) -> None:
    """Write a small random model with dropout, and rows of the bundled corpus."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    docs = pq.read_table(ROOT / "data" / "demo" / "docs.parquet").select(["title", "text"])
    pq.write_table(docs, folder / "rows.parquet")
    words = {word for text in docs["text"].to_pylist() for word in text.lower().split()}
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    model = folder / "model"
    model.mkdir()
    (model / "vocab.txt").write_text("\n".join([*special, *sorted(words)[:WORDS]]))
    BertTokenizerFast(vocab=str(model / "vocab.txt")).save_pretrained(model)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(special) + WORDS,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(model)


def kill_driver(drill: Drill, name: str, step: int) -> int:
    """Kill a training's only process, then run its command again; the step it had come to."""
    process = drill.start(name)
    done = drill.wait(name, step, lambda: process.poll() is None)
    process.kill()
    process.wait()
    if drill.start(name).wait():
        raise SystemExit(f"{name}: the second attempt failed")
    return done


def kill_worker(drill: Drill, name: str, step: int) -> int:
    """Kill one of a training's two Ray workers while it goes on; the step it had come to."""
    done: list[int] = []

    def kill() -> None:
        done.append(drill.wait(name, step, lambda: not (drill.folder / name).exists()))
        workers = [
            child
            for child in psutil.Process().children(recursive=True)
            if "RayTrainWorker" in " ".join(child.cmdline())
        ]
        random.choice(workers).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    drill.on_ray(name)
    killer.join()
    return done[0]


def main() -> None:
    """Run the drill and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--victims", nargs="+", default=["driver", "worker"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        drill = Drill(Path(scratch), arguments.steps)
        prepare(drill.folder)
        print(f"{arguments.steps} steps, a checkpoint every {CHECKPOINT_EVERY}", flush=True)
        for victim in arguments.victims:
            clean = f"{victim}-clean"
            if victim == "worker":
                drill.on_ray(clean)
            elif drill.start(clean).wait():
                raise SystemExit("the clean run failed")
            for number in range(1, arguments.kills + 1):
                name = f"{victim}-{number}"
                step = random.randrange(CHECKPOINT_EVERY, arguments.steps - 2 * CHECKPOINT_EVERY)
                began = time.monotonic()
                done = (kill_worker if victim == "worker" else kill_driver)(drill, name, step)
                same = drill.weights(name) == drill.weights(clean)
                print(
                    f"{victim} {number}: killed behind the checkpoint of step {done}, "
                    f"weights {'equal' if same else 'DIFFER'}, "
                    f"{time.monotonic() - began:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
