"""One step's forward pass: a batch in, the loss ready for `backward` out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from raybert.encoders.base import Encoder
from raybert.losses import GUIDE, LAYERS, AdaptiveLayerLoss, Loss, csr
from raybert.modules import Features, ModuleSequence
from raybert.training.cached_step import EMBEDDING, StepLoss, cached_step, plain_step
from raybert.training.collate import Batch, Column
from raybert.training.companions import DetailedLoss, PartLosses, TwinLoss
from raybert.training.mini_batches import MiniBatches, Pictures

DETAILS = (csr.BACKBONE, csr.DECODED_K, csr.DECODED_K_PRE_BIAS, csr.DECODED_4K, csr.DECODED_AUX)
"""Features besides the embedding that losses ask for, where a model makes them."""


class Step:
    """Runs a batch through the model and the loss.

    Texts go through in passes of similar length, so that little is padding.

    Args:
        encoder: whose model is trained.
        loss: a `GatheredLoss` for candidates from every process.
        limits: size of a pass.
        cached: keep gradients of embeddings only and embed twice (GradCache).
        dtype: number format of the forward pass.
        guide: embeds the guide's columns of a batch, for losses with a guide model.
    """

    def __init__(
        self,
        encoder: Encoder,
        loss: Loss,
        *,
        limits: MiniBatches,
        cached: bool = False,
        dtype: torch.dtype = torch.float32,
        guide: Encoder | None = None,
    ) -> None:
        self.encoder, self.loss, self.guide = encoder, loss, guide
        self.limits, self.cached, self.dtype = limits, cached, dtype
        self.model: dict[int, ModuleSequence] = {}
        self.layered = False
        self.output = "scores" if "rerank" in encoder.capabilities else "sentence_embedding"

    def __call__(self, batch: Batch) -> StepLoss:
        """Return the batch's loss."""
        device = self.encoder.device
        labels = None if batch.labels is None else batch.labels.to(device)
        mixed = self.dtype != torch.float32
        with torch.autocast(device.type, dtype=self.dtype if mixed else None, enabled=mixed):
            loss = self._loss(batch)
            if self.cached:
                return cached_step(self._pass, batch.columns, loss, labels, limits=self.limits)
            return plain_step(self._column, batch.columns, loss, labels)

    def _loss(self, batch: Batch) -> Loss:
        """Return the loss of the batch's dataset, with the guide's embeddings where it has one."""
        loss = self.loss.of(batch.part) if isinstance(self.loss, PartLosses) else self.loss
        self.model = {1: twin} if (twin := _twin(loss)) else {}
        self.layered = _has(loss, AdaptiveLayerLoss)
        if self.guide is None or not batch.guide:
            return loss
        guided = []
        for tokens in batch.guide:
            split = self.limits.split(tokens.lengths)
            parts = [self.guide.features(tokens.take(rows))[EMBEDDING] for rows in split]
            back = torch.tensor([row for rows in split for row in rows]).argsort()
            guided.append(torch.cat(parts)[back.to(parts[0].device)].clone())
        return DetailedLoss(loss, {GUIDE: guided})

    def _column(self, number: int, tokens: Column) -> Mapping[str, Tensor]:
        """Embed a column in passes of similar length, rows back in their order."""
        split = self.limits.split(tokens.lengths)
        parts = [self._pass(number, tokens.take(rows)) for rows in split]
        if len(parts) == 1 and split[0] == sorted(split[0]):
            return parts[0]
        back = torch.tensor([row for rows in split for row in rows]).argsort()
        return {
            name: torch.cat([part[name] for part in parts])[back.to(first.device)]
            for name, first in parts[0].items()
        }

    def _pass(self, number: int, tokens: Column) -> Mapping[str, Tensor]:
        """Embed some rows at once."""
        model, encoder = self.model.get(number, self.encoder.model), self.encoder
        if isinstance(tokens, Pictures):
            inputs: Features = {"pixel_values": tokens.pixels.to(encoder.device)}
        else:
            inputs = encoder.collate(tokens)
        if self.layered:
            return _layers(model, inputs)
        features = model(inputs)
        details = {name: features[name] for name in DETAILS if name in features}
        return {EMBEDDING: features[self.output], **details}


def _layers(model: ModuleSequence, features: Features) -> dict[str, Tensor]:
    """Embed texts from every layer: the last [N, D], and as a detail the earlier [N, L, D]."""
    modules: list[Any] = list(model)
    first, rest = modules[0], modules[1:]
    config = first.model.config
    before, config.output_hidden_states = config.output_hidden_states, True
    try:
        found = first(dict(features))
    finally:
        config.output_hidden_states = before

    def pooled(tokens_NTD: Tensor) -> Tensor:
        output = {**found, "token_embeddings": tokens_NTD}
        for module in rest:
            output = module(output)
        embeddings_ND: Tensor = output[EMBEDDING]
        return embeddings_ND

    earlier = [pooled(layer) for layer in found["all_layer_embeddings"][:-1]]
    return {EMBEDDING: pooled(found["token_embeddings"]), LAYERS: torch.stack(earlier, dim=1)}


def _twin(loss: Loss) -> ModuleSequence | None:
    """Return the second copy of the model, where a loss has one."""
    return next((each.twin for each in loss.modules() if isinstance(each, TwinLoss)), None)


def _has(loss: Loss, kind: type[Loss]) -> bool:
    """Say whether a loss is of a kind, or has one inside."""
    return any(isinstance(each, kind) for each in loss.modules())
