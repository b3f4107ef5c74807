"""From settings to a training, ready to run on one rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from raybert.artifacts import Folder, fingerprint, fingerprint_folder
from raybert.devices import pick_device
from raybert.encoders import CrossEncoder, DenseEncoder, SparseEncoder
from raybert.encoders.base import Encoder
from raybert.errors import InputError, SettingsError
from raybert.losses import (
    LabelKind,
    Loss,
    MultipleNegativesRankingLoss,
    choose_loss,
    default_loss,
)
from raybert.modules import locate_model
from raybert.sampling import BatchSampler, RankBatches, choose_sampler
from raybert.training.checkpoint import Checkpoints, seed_all
from raybert.training.collate import Collate
from raybert.training.data import TrainingData, open_data
from raybert.training.evaluators import open_evaluator
from raybert.training.gather import GatheredLoss, world_size
from raybert.training.mini_batches import MiniBatches
from raybert.training.optimizer import Schedule, make_optimizer
from raybert.training.ranks import rank, same_weights
from raybert.training.settings import LossSettings, ScaleSettings, TrainingSettings
from raybert.training.state import Training
from raybert.training.step import Step

ENCODERS: dict[str, type[Encoder]] = {
    "dense": DenseEncoder,
    "sparse": SparseEncoder,
    "cross": CrossEncoder,
}
"""Family of a model to its encoder."""
WHOLE_BATCH = 1 << 30
"""Rows of a pass that is bounded by tokens alone."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained.

    Args:
        settings: what the user asked for.
        family: `dense`, `sparse` or `cross`.
        opening: further arguments for the encoder, such as a cross-encoder's `num_labels`.
    """

    settings: TrainingSettings
    family: str
    opening: Mapping[str, Any] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Folder:
        """The folder of the checkpoints, beside the model."""
        return Folder(Folder(self.settings.out).absolute.rstrip("/") + ".checkpoints")

    def signature(self, data: TrainingData) -> str:
        """Return what two trainings share only if one may go on from the other's checkpoint."""
        parts = {"model", "data", "loss", "batch", "schedule", "max_seq_length", "seed"}
        return fingerprint(
            {
                **self.settings.model_dump(mode="json", include=parts),
                "family": self.family,
                "opening": dict(self.opening),
                "model": fingerprint_folder(locate_model(self.settings.model)),
                "rows": data.fingerprint,
            }
        )


def make_training(job: Job, data: TrainingData | None = None) -> Training:
    """Open model and data, and put the training together; equal on every rank.

    Raises:
        InputError: the data does not fit the loss, or gives no full batch.
        SettingsError: a setting does not fit another.
        ModelError: the model cannot be opened.
    """
    settings = job.settings
    data = data or open_data(settings.data)
    seed_all(settings.seed)
    encoder = _open(job)
    loss = _loss(settings.loss, job, data, encoder).to(encoder.device)
    data.fit(loss)
    same_weights(encoder.model)
    same_weights(loss)
    sampler = _sampler(settings, data)
    steps = settings.schedule.max_steps or _steps(settings, sampler)
    trained = GatheredLoss(loss) if settings.batch.gather else loss
    named = [
        *encoder.model.named_parameters(),
        *((f"loss.{name}", each) for name, each in loss.named_parameters()),
    ]
    seed_all(settings.seed + rank())
    return Training(
        encoder=encoder,
        loss=trained,
        step=_step(settings, encoder, trained),
        collate=Collate(data, encoder.tokenizing, loss, settings.data.prompts),
        batches=RankBatches(sampler, rank(), world_size()),
        optimizer=make_optimizer(named, settings.schedule),
        schedule=Schedule.of(settings.schedule, steps),
        checkpoints=Checkpoints(job.checkpoints, job.signature(data), settings.saving.keep),
        settings=settings,
        evaluator=open_evaluator(settings.evaluation, job.family),
    )


def _open(job: Job) -> Encoder:
    """Open the model, weights in float32."""
    make: Any = ENCODERS[job.family]
    encoder: Encoder = make(
        locate_model(job.settings.model),
        device=job.settings.scale.device,
        dtype="float32",
        **job.opening,
    )
    if job.settings.max_seq_length is not None:
        encoder.max_seq_length = job.settings.max_seq_length
    return encoder


def _loss(settings: LossSettings, job: Job, data: TrainingData, encoder: Encoder) -> Loss:
    """Return the loss asked for, else the one that fits model and columns."""
    if settings.name is not None:
        loss = choose_loss(settings.name, job.family, **settings.settings)
    elif job.family == "dense" and data.label is None:
        loss = MultipleNegativesRankingLoss(**settings.settings)
    else:
        loss = default_loss(job.family, getattr(encoder, "num_labels", 1))
    if loss.labels is LabelKind.TOKENS:
        raise SettingsError(f"loss.name {settings.name!r}: it needs a decoder; this job has none")
    return loss


def _sampler(settings: TrainingSettings, data: TrainingData) -> BatchSampler:
    """Return the batches of the whole run."""
    batch, world = settings.batch, world_size()
    if batch.size % world:
        raise SettingsError(f"batch.size {batch.size}: {world} workers cannot share it evenly")
    columns = {name: data.table.column(name).to_pylist() for name in data.table.column_names}
    texts = {name: values for name, values in columns.items() if name != data.label}
    return choose_sampler(
        batch.sampler,
        columns if batch.sampler == "group_by_label" else texts,
        batch.size,
        drop_last=batch.drop_last or world > 1,
        seed=settings.seed,
    )


def _steps(settings: TrainingSettings, sampler: BatchSampler) -> int:
    """Return the optimizer steps of all epochs."""
    batches = [len(sampler.plan(epoch)) for epoch in range(settings.schedule.epochs)]
    if not min(batches):
        raise InputError(
            f"data: {sampler.rows} rows give no full batch of {sampler.batch_size}; make "
            f"batch.size smaller"
        )
    return sum(math.ceil(count / settings.batch.accumulate) for count in batches)


def _step(settings: TrainingSettings, encoder: Encoder, loss: Loss) -> Step:
    """Return the step: in one pass of bounded tokens after another, or cached."""
    batch = settings.batch
    tokens = batch.tokens_per_pass or encoder.tokens_per_batch
    return Step(
        encoder,
        loss,
        limits=MiniBatches(batch.cached_rows or WHOLE_BATCH, tokens),
        cached=batch.cached_rows is not None,
        dtype=_precision(settings.scale),
    )


def _precision(scale: ScaleSettings) -> torch.dtype:
    """Return the number format of the forward pass."""
    if scale.dtype != "auto":
        return torch.bfloat16 if scale.dtype == "bfloat16" else torch.float32
    has = pick_device(scale.device).type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has else torch.float32
