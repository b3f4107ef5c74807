"""What a training is fed: its losses, its batches, and what makes a batch of rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raybert.encoders import DenseEncoder
from raybert.encoders.base import Encoder
from raybert.errors import SettingsError
from raybert.losses import (
    AdaptiveLayerLoss,
    ContrastiveTensionLoss,
    ContrastiveTensionLossInBatchNegatives,
    DenoisingAutoEncoderLoss,
    GISTEmbedLoss,
    Loss,
    MultipleNegativesRankingLoss,
    choose_loss,
    default_loss,
)
from raybert.modules import (
    CLIPModel,
    RoutedTokenization,
    Transformer,
    locate_model,
    read_checkpoint,
)
from raybert.modules.decoder import Decoder
from raybert.sampling import BatchSampler, WindowedBatchSampler, choose_sampler, mix_samplers
from raybert.training.collate import Collate, MixedCollate
from raybert.training.companions import DecodedLoss, PartLosses, TwinLoss
from raybert.training.data import TrainingData
from raybert.training.data_settings import DataSettings, LossSettings
from raybert.training.gather import GatheredLoss
from raybert.training.mini_batches import Pictures
from raybert.training.settings import TrainingSettings
from raybert.training.streamed import StreamedData

TWINS = (ContrastiveTensionLoss, ContrastiveTensionLossInBatchNegatives)
"""Losses over two copies of the model."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Losses, batches and collating of a training, over one dataset or several.

    Args:
        loss: as the step takes it.
        sampler: the batches of the whole run.
        collate: makes a batch of row numbers.
        guide: the guide model of a loss that has one.
    """

    loss: Loss
    sampler: BatchSampler
    collate: Collate | MixedCollate
    guide: Encoder | None = None


def make_feed(
    settings: TrainingSettings,
    family: str,
    data: TrainingData,
    encoder: Encoder,
    world: int,
) -> Feed:
    """Put losses, batches and collating together.

    Raises:
        InputError: rows do not fit their loss.
        SettingsError: a setting does not fit the model, the loss or the number of workers.
    """
    if settings.batch.size % world:
        raise SettingsError(
            f"batch.size {settings.batch.size}: {world} workers cannot share it evenly"
        )
    parts = data.parts
    told: list[DataSettings] = [settings.data, *settings.data.also.values()]
    wanted = [settings.loss, *(each.loss for each in settings.data.also.values())]
    losses = [choose(each, family, rows, encoder) for each, rows in zip(wanted, parts, strict=True)]
    for loss, rows in zip(losses, parts, strict=True):
        rows.fit(loss)
    guide = _guide(settings, wanted, losses)
    collates = [
        Collate(
            rows,
            encoder.tokenizing,
            loss,
            each.prompts,
            _routes(each, rows, encoder),
            guide.tokenizing if guide is not None and _has(loss, GISTEmbedLoss) else None,
            _pictures(rows, encoder),
        )
        for rows, loss, each in zip(parts, losses, told, strict=True)
    ]
    samplers = [_sampler(settings, rows, world) for rows in parts]
    ready = [_ready(loss, encoder, settings) for loss in losses]
    if len(parts) == 1:
        return Feed(ready[0], samplers[0], collates[0], guide)
    mixed = mix_samplers(settings.data.mixing, samplers, settings.seed)
    return Feed(PartLosses(ready), mixed, MixedCollate(collates, mixed), guide)


def choose(settings: LossSettings, family: str, data: TrainingData, encoder: Encoder) -> Loss:
    """Return the loss asked for, else the one that fits model and columns."""
    if settings.name is not None:
        return choose_loss(settings.name, family, **settings.settings)
    if family == "dense" and data.label is None:
        return MultipleNegativesRankingLoss(**settings.settings)
    return default_loss(family, getattr(encoder, "num_labels", 1))


def _ready(loss: Loss, encoder: Encoder, settings: TrainingSettings) -> Loss:
    """Return a loss with the second model it needs, gathering if asked for.

    Raises:
        SettingsError: the model is not of the kind the loss needs.
    """
    first: Any = encoder.model[0]
    deep = isinstance(loss, DenoisingAutoEncoderLoss) or _has(loss, AdaptiveLayerLoss)
    if deep and not isinstance(first, Transformer):
        raise SettingsError(
            f"{type(loss).__name__} needs a transformer; {settings.model} begins with "
            f"{type(first).__name__}"
        )
    if isinstance(loss, DenoisingAutoEncoderLoss):
        loss.pad_token_id = encoder.tokenizer.pad_token_id
        folder = read_checkpoint(locate_model(settings.model)).transformer
        return DecodedLoss(loss, Decoder.open(folder, first.model))
    if isinstance(loss, TWINS):
        loss = TwinLoss(loss, copy.deepcopy(encoder.model))
    return GatheredLoss(loss) if settings.batch.gather else loss


def _guide(
    settings: TrainingSettings, wanted: Sequence[LossSettings], losses: Sequence[Loss]
) -> Encoder | None:
    """Open the guide model, where a loss needs one.

    Raises:
        SettingsError: a guide is named for a loss that has none, or two of them.
    """
    names: set[str] = set()
    for asked, loss in zip(wanted, losses, strict=True):
        if _has(loss, GISTEmbedLoss):
            names.add(asked.guide or settings.model)
        elif asked.guide is not None:
            raise SettingsError(f"loss.guide {asked.guide!r}: {type(loss).__name__} has no guide")
    if len(names) > 1:
        raise SettingsError(f"loss.guide: one guide for all datasets; {', '.join(sorted(names))}")
    if not names:
        return None
    guide = DenseEncoder(locate_model(names.pop()), device=settings.scale.device)
    guide.model.requires_grad_(False)
    return guide


def _routes(settings: DataSettings, data: TrainingData, encoder: Encoder) -> dict[str, str]:
    """Return the route of each column; a model that has routes must be told them.

    Raises:
        SettingsError: a column has none, or the model has no such route.
    """
    tokenization = encoder.tokenizing.tokenization
    if not isinstance(tokenization, RoutedTokenization):
        if settings.routes:
            raise SettingsError("data.routes: this model has no routes")
        return {}
    names = tokenization.routes.names
    for column in data.columns:
        if settings.routes.get(column) not in names:
            raise SettingsError(
                f"data.routes: column {column!r} needs a route of this model: {', '.join(names)}"
            )
    return settings.routes


def _pictures(data: TrainingData, encoder: Encoder) -> Callable[[Sequence[Any]], Pictures] | None:
    """Return what prepares pictures, where the rows have some.

    Raises:
        SettingsError: the model reads texts alone.
    """
    if not data.images:
        return None
    first = encoder.model[0]
    if not isinstance(first, CLIPModel):
        raise SettingsError(f"data.images: column {data.images[0]!r} needs a model of images")
    return lambda images: Pictures(first.pixels(images), first.patches)


def _sampler(settings: TrainingSettings, data: TrainingData, world: int) -> BatchSampler:
    """Return the batches of one dataset."""
    batch = settings.batch
    if isinstance(data, StreamedData):
        if batch.sampler != "batch_sampler":
            raise SettingsError(f"data.window: batch.sampler {batch.sampler} needs all rows")
        drop_last, stream = batch.drop_last or world > 1, data.stream
        return WindowedBatchSampler(
            stream.rows, stream.window, batch.size, drop_last, settings.seed
        )
    columns = {name: data.table.column(name).to_pylist() for name in data.table.column_names}
    texts = {name: values for name, values in columns.items() if name != data.label}
    return choose_sampler(
        batch.sampler,
        columns if batch.sampler == "group_by_label" else texts,
        batch.size,
        drop_last=batch.drop_last or world > 1,
        seed=settings.seed,
    )


def _has(loss: Loss, kind: type[Loss]) -> bool:
    """Say whether a loss is of a kind, or has one inside."""
    return any(isinstance(each, kind) for each in loss.modules())
