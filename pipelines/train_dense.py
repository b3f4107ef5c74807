"""Train a dense encoder: rows and a model in, a model out.

    python pipelines/train_dense.py --model all-MiniLM-L6-v2 --data.files pairs.parquet \
        --loss.name MultipleNegativesRankingLoss --out artifacts/model

Run the same command again to go on with a training that stopped.
"""

from raybert.settings import run_job
from raybert.training import Job, TrainingSettings, run_training


class TrainDense(TrainingSettings):
    """Train a dense encoder: rows and a model in, a model out."""


def main(settings: TrainDense) -> str:
    """Train; returns where the model lies."""
    return run_training(Job(settings, "dense"), "train_dense")


if __name__ == "__main__":
    run_job(TrainDense, main)
