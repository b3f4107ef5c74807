"""From a trained model to a model artifact."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raybert.artifacts import (
    MANIFEST,
    Folder,
    Input,
    Manifest,
    Shard,
    fingerprint_folder,
    hash_bytes,
    write_manifest,
)
from raybert.encoders.card import ModelCard
from raybert.modules import locate_model
from raybert.training.build import Job
from raybert.training.data import TrainingData
from raybert.training.state import Training


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended.

    Args:
        steps: optimizer steps done.
        loss: name of the loss.
        before: metrics of the model it began with.
        metrics: metrics of the model that was saved.
        fingerprint: content hash of the saved model.
        files: the saved model's files.
        history: what was logged on the way: name to (step, value).
        fault: what stopped it, in one line; None if nothing did.
    """

    steps: int = 0
    loss: str = ""
    before: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    files: tuple[Shard, ...] = ()
    history: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    fault: str | None = None


def inputs_of(job: Job, data: TrainingData) -> tuple[Input, Input]:
    """Return what a model is trained from: its rows and the model it begins with."""
    model = locate_model(job.settings.model)
    files = ",".join(Folder(name).absolute for name in job.settings.data.files)
    return (
        Input(kind="pairs", uri=files, fingerprint=data.fingerprint),
        Input(kind="model", uri=str(model.absolute()), fingerprint=fingerprint_folder(model)),
    )


def save_model(job: Job, training: Training, outcome: Outcome) -> tuple[str, tuple[Shard, ...]]:
    """Save the model into the artifact's folder, local or remote; its content hash and files."""
    out, encoder, card = Folder(job.settings.out), training.encoder, _card(job, outcome)
    if out.local is not None:
        return _described(encoder.save_pretrained(out.local, card=card))
    with tempfile.TemporaryDirectory() as scratch:
        found = _described(saved := encoder.save_pretrained(Path(scratch) / "model", card=card))
        for shard in found[1]:
            out.write_bytes(shard.file, (saved / shard.file).read_bytes())
    return found


def finish_model(
    job: Job, data: TrainingData, outcome: Outcome, run_id: str | None = None
) -> Manifest:
    """Write the manifest of a saved model, then remove its checkpoints.

    Args:
        job: what was trained.
        data: its rows.
        outcome: how training ended.
        run_id: the MLflow run.
    """
    manifest = write_manifest(
        Folder(job.settings.out),
        Manifest(
            kind="model",
            fingerprint=outcome.fingerprint,
            settings=job.settings.model_dump(mode="json"),
            rows=len(data),
            inputs=inputs_of(job, data),
            shards=outcome.files,
            details={
                "family": job.family,
                "training": job.signature(data),
                "steps": outcome.steps,
                "loss": outcome.loss,
                "before": dict(outcome.before),
                "metrics": dict(outcome.metrics),
            },
            mlflow_run=run_id,
        ),
    )
    job.checkpoints.remove()
    return manifest


def _described(folder: Path) -> tuple[str, tuple[Shard, ...]]:
    """Return a model folder's content hash and its files."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    shards = []
    for path in paths:
        data = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        shards.append(Shard(file=name, rows=0, bytes=len(data), checksum=hash_bytes(data)))
    return fingerprint_folder(folder), tuple(shards)


def _card(job: Job, outcome: Outcome) -> ModelCard:
    """Return what the model card says of the training."""
    settings = job.settings
    return ModelCard(
        name=Path(settings.out).name,
        base_model=settings.model,
        datasets=settings.data.files,
        losses=[outcome.loss],
        settings={
            "steps": outcome.steps,
            "batch size": settings.batch.size,
            "learning rate": settings.schedule.learning_rate,
            "seed": settings.seed,
        },
        metrics=outcome.metrics,
    )
