"""Train a sparse encoder: rows and a model in, a model out.

    python pipelines/train_sparse.py --model path/to/masked-lm --data.files pairs.parquet \
        --out artifacts/model

Run the same command again to go on with a training that stopped.
"""

from raybert.settings import run_job
from raybert.training import Job, TrainingSettings, run_training


class TrainSparse(TrainingSettings):
    """Train a sparse encoder: rows and a model in, a model out."""


def main(settings: TrainSparse) -> str:
    """Train; returns where the model lies."""
    return run_training(Job(settings, "sparse"), "train_sparse")


if __name__ == "__main__":
    run_job(TrainSparse, main)
