"""Distill: a teacher and texts in, a student out.

    python pipelines/distill.py --teacher all-MiniLM-L6-v2 --model all-MiniLM-L6-v2 \
        --keep-layers 0 --keep-layers 2 --keep-layers 4 --data.files texts.parquet --out student
    python pipelines/distill.py --teacher artifacts/cross-encoder --model all-MiniLM-L6-v2 \
        --data.files negatives/rows.parquet --out student

A dense teacher's vectors of the first column are learnt by the vectors of every column (the same
texts, or their translations); a cross-encoder's scores of the first column with each other one.
A sparse student (--family sparse) names its loss, such as SpladeLoss over SparseMarginMSELoss.
Run the same command again to go on with what stopped.
"""

from typing import Literal

from raybert.artifacts import Folder
from raybert.errors import SettingsError
from raybert.modules import locate_model
from raybert.settings import run_job
from raybert.training import Job, TrainingSettings, open_data, run_training
from raybert.training.teaching import LABEL, shallow_student, teach, teachers_loss


class Distill(TrainingSettings):
    """Distill: a teacher and texts in, a student out."""

    teacher: str
    """Model folder of the teacher: dense, or a cross-encoder with one label."""
    family: Literal["dense", "sparse"] = "dense"
    """Kind of student."""
    keep_layers: list[int] | None = None
    """Start from these layers of --model alone, numbered from 0; dense students."""


def main(settings: Distill) -> str:
    """Let the teacher label the rows, then train; returns where the student lies."""
    beside = Folder(settings.out).absolute.rstrip("/")
    teacher = str(locate_model(settings.teacher))
    data = open_data(settings.data)
    taught = teach(data, teacher, f"{beside}.taught", settings.scale.device)

    model = settings.model
    if settings.keep_layers is not None:
        if settings.family == "sparse":
            raise SettingsError("keep_layers: dense students alone lose layers")
        model = shallow_student(str(locate_model(model)), settings.keep_layers, f"{beside}.student")

    columns = {name: name for name in [*data.columns, LABEL]}
    told = {"files": [taught], "columns": columns, "spread": {}, "texts": {}, "rows": None}
    loss = settings.loss
    if loss.name is None:
        if settings.family == "sparse":
            raise SettingsError("loss.name: a sparse student needs one, see docs/losses.md")
        loss = loss.model_copy(update={"name": teachers_loss(teacher)})
    student = settings.model_copy(
        update={"model": model, "loss": loss, "data": settings.data.model_copy(update=told)}
    )
    return run_training(Job(student, settings.family), "distill")


if __name__ == "__main__":
    run_job(Distill, main)
