"""A training job from its settings to a finished model: one MLflow run, however often begun."""

from __future__ import annotations

import json
import tempfile
from contextlib import closing
from pathlib import Path

from raybert.artifacts import Folder, finished
from raybert.errors import ArtifactError
from raybert.evaluation.report import draw_png
from raybert.tracking import Run, Usage
from raybert.tracking import job as tracked
from raybert.training.build import Job
from raybert.training.data import TrainingData
from raybert.training.launch import train_job
from raybert.training.opening import open_data
from raybert.training.plots import training_plots
from raybert.training.saving import Outcome, finish_model, inputs_of

RUN = "run.json"
"""File beside the checkpoints that names the run to go on with."""
CARD = "README.md"


def run_training(job: Job, kind: str) -> str:
    """Train, save, log and register a model; do nothing where that is done.

    The same call goes on with what was begun: from the last checkpoint, in the same MLflow run.

    Args:
        job: what is to be trained.
        kind: name of the job file, such as `train_dense`.

    Returns:
        where the model lies.

    Raises:
        ArtifactError: something else lies there.
        RaybertError: another fault of the user's.
    """
    with closing(open_data(job.settings.data)) as data:
        return _run(job, kind, data)


def _run(job: Job, kind: str, data: TrainingData) -> str:
    """Train on these rows, if that is not done."""
    settings = job.settings
    if (done := finished(Folder(settings.out))) is not None:
        if done.details.get("training") != job.signature(data):
            raise ArtifactError(f"{settings.out}: holds something else that is finished")
        print(f"nothing to do: trained already, {done.details['steps']:,} steps")
        return settings.out

    name = f"train {Path(settings.out).name}"
    with tracked(settings, name=name, kind=kind, run_id=_begun(job, data)) as run:
        _remember(job, data, run)
        for item in inputs_of(job, data):
            run.input(item.kind, item.uri, item.fingerprint)
        outcome = train_job(job, data, run)
        publish(job, data, outcome, run)
        finish_model(job, data, outcome, run.run_id)
    print(f"{outcome.steps:,} steps of {outcome.loss} over {len(data):,} rows")
    for name, value in outcome.metrics.items():
        print(f"{name}: {outcome.before.get(name, float('nan')):.4f} -> {value:.4f}")
    return settings.out


def publish(job: Job, data: TrainingData, outcome: Outcome, run: Run) -> None:
    """Record plots, model card and model with the run; a server that is away stops nothing."""
    if run.run_id is None:
        return
    run.metrics({f"before/{name}": value for name, value in outcome.before.items()})
    saving = job.settings.saving
    with tempfile.TemporaryDirectory() as scratch:
        plots = Path(scratch) / "plots"
        plots.mkdir()
        for plot in training_plots(outcome.history):
            (plots / f"{plot.name}.png").write_bytes(draw_png(plot))
        run.artifact(plots)
        model = _local(job, outcome, Path(scratch))
        run.artifact(model / CARD)
        if saving.log_model or saving.register_as is not None:
            run.model(
                model,
                name=saving.register_as or Path(job.settings.out).name,
                register=saving.register_as is not None,
                usage=_usage(job, data),
            )


def _local(job: Job, outcome: Outcome, scratch: Path) -> Path:
    """Return the saved model as a local folder, fetched where it is remote."""
    folder = Folder(job.settings.out)
    if folder.local is not None:
        return folder.local
    for shard in outcome.files:
        target = scratch / "model" / shard.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(folder.read_bytes(shard.file))
    return scratch / "model"


def _usage(job: Job, data: TrainingData) -> Usage:
    """Return how the model is called, with texts it was trained on as the example."""
    rows = range(min(2, len(data)))
    texts = [data.texts(column, rows) for column in data.columns[:2]]
    if job.family != "cross":
        return Usage(
            widths=(-1,) if job.family == "dense" else None, example=[[text] for text in texts[0]]
        )
    first = texts[-1][0]
    pairs = list(zip(*texts, strict=True)) if isinstance(first, str) else [(texts[0][0], first[0])]
    labels = job.opening.get("num_labels") or 1
    widths = () if labels == 1 else (labels,)
    return Usage(("text", "text_pair"), widths, [list(pair) for pair in pairs])


def _begun(job: Job, data: TrainingData) -> str | None:
    """Return the run of an attempt at the same training that did not end."""
    if not job.checkpoints.exists(RUN):
        return None
    said: dict[str, str] = json.loads(job.checkpoints.read_bytes(RUN))
    return said["run_id"] if said["training"] == job.signature(data) else None


def _remember(job: Job, data: TrainingData, run: Run) -> None:
    """Write down which run a next attempt goes on with."""
    if run.run_id is not None:
        said = {"run_id": run.run_id, "training": job.signature(data)}
        job.checkpoints.write_bytes(RUN, json.dumps(said).encode())
