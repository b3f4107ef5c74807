"""From settings to a training, ready to run on one rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from raybert.artifacts import Folder, fingerprint, fingerprint_folder
from raybert.devices import pick_device
from raybert.encoders import CrossEncoder, DenseEncoder, SparseEncoder
from raybert.encoders.base import Encoder
from raybert.errors import InputError, SettingsError
from raybert.losses import AdaptiveLayerLoss, Loss
from raybert.modules import locate_model
from raybert.sampling import BatchSampler, RankBatches
from raybert.training.checkpoint import Checkpoints, seed_all
from raybert.training.companions import told
from raybert.training.data import TrainingData
from raybert.training.evaluators import open_evaluator
from raybert.training.feed import Feed, make_feed
from raybert.training.gather import world_size
from raybert.training.mini_batches import MiniBatches
from raybert.training.opening import open_data
from raybert.training.optimizer import Schedule, make_optimizer
from raybert.training.prepare import prepare
from raybert.training.ranks import rank, same_weights
from raybert.training.settings import ScaleSettings, TrainingSettings
from raybert.training.split_weights import split
from raybert.training.state import Training
from raybert.training.step import Step

ENCODERS: dict[str, type[Encoder]] = {
    "dense": DenseEncoder,
    "sparse": SparseEncoder,
    "cross": CrossEncoder,
}
"""Family of a model to its encoder."""
LETTERS_A_TOKEN = 4
"""About; in English."""
WHOLE_BATCH = 1 << 30
"""Rows of a pass that is bounded by tokens alone."""
CPU_OVERHEAD, GPU_OVERHEAD = 256, 4096
"""What a forward and backward pass costs besides its tokens, in tokens: on a CPU reading all
weights and adding to all gradients, on a GPU launching kernels."""


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
        parts = {"model", "data", "loss", "batch", "schedule", "lora", "max_seq_length", "seed"}
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
    feed = make_feed(settings, job.family, data, encoder, world_size())
    loss = feed.loss.to(encoder.device)
    same_weights(encoder.model)
    same_weights(loss)
    if settings.scale.split_weights:
        _refuse_to_split(loss)
        split(encoder.model, encoder.device)
    steps = settings.schedule.max_steps or _steps(settings, feed.sampler)
    named = [
        *encoder.model.named_parameters(),
        *((f"loss.{name}", each) for name, each in loss.named_parameters()),
    ]
    seed_all(settings.seed + rank())
    return Training(
        encoder=encoder,
        loss=loss,
        step=_step(settings, encoder, feed),
        collate=feed.collate,
        batches=RankBatches(feed.sampler, rank(), world_size(), _sizes(settings, encoder, feed)),
        optimizer=make_optimizer(_once(named), settings.schedule),
        schedule=Schedule.of(settings.schedule, steps),
        checkpoints=Checkpoints(job.checkpoints, job.signature(data), settings.saving.keep),
        settings=settings,
        evaluator=open_evaluator(settings.evaluation, job.family),
        reopen=partial(_open, job),
    )


def _sizes(
    settings: TrainingSettings, encoder: Encoder, feed: Feed
) -> Callable[[Sequence[int]], Sequence[float]] | None:
    """Return what rows cost, by which ranks share a batch; none where labels' rows lie together.

    Letters stand in for tokens, which each rank would have to make of the whole batch.
    """
    if settings.batch.sampler == "group_by_label":
        return None
    longest = encoder.max_seq_length
    return partial(feed.collate.letters, at_most=LETTERS_A_TOKEN * longest if longest else math.inf)


def _open(job: Job) -> Encoder:
    """Open the model, weights in float32, and make it ready."""
    make: Any = ENCODERS[job.family]
    encoder: Encoder = make(
        locate_model(job.settings.model),
        device=job.settings.scale.device,
        dtype="float32",
        **job.opening,
    )
    if job.settings.max_seq_length is not None:
        encoder.max_seq_length = job.settings.max_seq_length
    prepare(encoder, job.settings)
    return encoder


def _refuse_to_split(loss: Loss) -> None:
    """Refuse losses that a split model cannot serve.

    Raises:
        SettingsError: the loss has weights of its own, or embeds from single layers.
    """
    layered = any(isinstance(each, AdaptiveLayerLoss) for each in loss.modules())
    if layered or next(loss.parameters(), None) is not None:
        raise SettingsError(f"scale.split_weights: not with {told(loss)}")


def _steps(settings: TrainingSettings, sampler: BatchSampler) -> int:
    """Return the optimizer steps of all epochs."""
    batches = [len(sampler.plan(epoch)) for epoch in range(settings.schedule.epochs)]
    if not min(batches):
        raise InputError(
            f"data: {sampler.rows} rows give no full batch of {sampler.batch_size}; make "
            f"batch.size smaller"
        )
    return sum(math.ceil(count / settings.batch.accumulate) for count in batches)


def _once(named: Sequence[tuple[str, nn.Parameter]]) -> list[tuple[str, nn.Parameter]]:
    """Leave out parameters that came before: a tied decoder shares those of the model."""
    first = {id(parameter): name for name, parameter in reversed(named)}
    return [(name, parameter) for name, parameter in named if first[id(parameter)] == name]


def _step(settings: TrainingSettings, encoder: Encoder, feed: Feed) -> Step:
    """Return the step: in one pass of bounded tokens after another, or cached."""
    batch = settings.batch
    tokens = batch.tokens_per_pass or encoder.tokens_per_batch
    overhead = CPU_OVERHEAD if encoder.device.type == "cpu" else GPU_OVERHEAD
    limits = MiniBatches(batch.cached_rows or WHOLE_BATCH, tokens, overhead=overhead)
    if settings.scale.split_weights:  # every process must gather a layer equally often
        limits = MiniBatches(batch.cached_rows or WHOLE_BATCH)
    return Step(
        encoder,
        feed.loss,
        limits=limits,
        cached=batch.cached_rows is not None,
        dtype=_precision(settings.scale),
        guide=feed.guide,
    )


def _precision(scale: ScaleSettings) -> torch.dtype:
    """Return the number format of the forward pass."""
    if scale.dtype != "auto":
        return torch.bfloat16 if scale.dtype == "bfloat16" else torch.float32
    has = pick_device(scale.device).type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has else torch.float32
