"""Training: the step's strategies (gathered candidates, cached gradients) in plain torch."""

from raybert.training.cached_step import EMBEDDING, StepLoss, cached_step, plain_step
from raybert.training.gather import GatheredLoss, gather_rows
from raybert.training.mini_batches import MiniBatches, Rows, TensorRows

__all__ = [
    "EMBEDDING",
    "GatheredLoss",
    "MiniBatches",
    "Rows",
    "StepLoss",
    "TensorRows",
    "cached_step",
    "gather_rows",
    "plain_step",
]
