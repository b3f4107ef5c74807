"""Train a cross-encoder: rows and a model in, a model out.

    python pipelines/train_cross.py --model all-MiniLM-L6-v2 --data.files pairs.parquet \
        --loss.name BinaryCrossEntropyLoss --out artifacts/model

Run the same command again to go on with a training that stopped.
"""

from pathlib import Path

from pydantic import Field

from raybert.artifacts import Folder, finished
from raybert.errors import ArtifactError
from raybert.settings import run_job
from raybert.tracking import job as tracked
from raybert.training import (
    Job,
    TrainingSettings,
    finish_model,
    inputs_of,
    open_data,
    train_job,
)


class TrainCross(TrainingSettings):
    """Train a cross-encoder: rows and a model in, a model out."""

    num_labels: int | None = Field(None, ge=1)
    """Scores that a pair gets from a new head; default: the model's own head, else one."""


def main(settings: TrainCross) -> str:
    """Train; returns where the model lies."""
    job = Job(settings, "cross", {"num_labels": settings.num_labels})
    data = open_data(settings.data)
    if (done := finished(Folder(settings.out))) is not None:
        if done.details.get("training") != job.signature(data):
            raise ArtifactError(f"{settings.out}: holds something else that is finished")
        print(f"nothing to do: trained already, {done.details['steps']:,} steps")
        return settings.out

    with tracked(settings, name=f"train {Path(settings.out).name}", kind="train_cross") as run:
        for item in inputs_of(job, data):
            run.input(item.kind, item.uri, item.fingerprint)
        outcome = train_job(job, data, run)
        finish_model(job, data, outcome, run.run_id)
    print(f"{outcome.steps:,} steps of {outcome.loss} over {len(data):,} rows")
    for name, value in outcome.metrics.items():
        print(f"{name}: {outcome.before.get(name, float('nan')):.4f} -> {value:.4f}")
    return settings.out


if __name__ == "__main__":
    run_job(TrainCross, main)
