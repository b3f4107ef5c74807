"""Train a cross-encoder: rows and a model in, a model out.

    python pipelines/train_cross.py --model all-MiniLM-L6-v2 --data.files pairs.parquet \
        --loss.name BinaryCrossEntropyLoss --out artifacts/model

Run the same command again to go on with a training that stopped.
"""

from pydantic import Field

from raybert.settings import run_job
from raybert.training import Job, TrainingSettings, run_training


class TrainCross(TrainingSettings):
    """Train a cross-encoder: rows and a model in, a model out."""

    num_labels: int | None = Field(None, ge=1)
    """Scores that a pair gets from a new head; default: the model's own head, else one."""


def main(settings: TrainCross) -> str:
    """Train; returns where the model lies."""
    return run_training(Job(settings, "cross", {"num_labels": settings.num_labels}), "train_cross")


if __name__ == "__main__":
    run_job(TrainCross, main)
