"""One step's forward pass: a batch in, the loss ready for `backward` out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from raybert.encoders.base import Encoder
from raybert.losses import Loss, csr
from raybert.records import TokenizedTexts
from raybert.training.cached_step import EMBEDDING, StepLoss, cached_step, plain_step
from raybert.training.collate import Batch
from raybert.training.mini_batches import MiniBatches

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
    """

    def __init__(
        self,
        encoder: Encoder,
        loss: Loss,
        *,
        limits: MiniBatches,
        cached: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.encoder, self.loss = encoder, loss
        self.limits, self.cached, self.dtype = limits, cached, dtype
        self.output = "scores" if "rerank" in encoder.capabilities else "sentence_embedding"

    def __call__(self, batch: Batch) -> StepLoss:
        """Return the batch's loss."""
        device = self.encoder.device
        labels = None if batch.labels is None else batch.labels.to(device)
        mixed = self.dtype != torch.float32
        with torch.autocast(device.type, dtype=self.dtype if mixed else None, enabled=mixed):
            if self.cached:
                return cached_step(self._pass, batch.columns, self.loss, labels, limits=self.limits)
            return plain_step(self._column, batch.columns, self.loss, labels)

    def _column(self, number: int, tokens: TokenizedTexts) -> Mapping[str, Tensor]:
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

    def _pass(self, number: int, tokens: TokenizedTexts) -> Mapping[str, Tensor]:
        """Embed some rows at once."""
        features = self.encoder.model(self.encoder.collate(tokens))
        details = {name: features[name] for name in DETAILS if name in features}
        return {EMBEDDING: features[self.output], **details}
