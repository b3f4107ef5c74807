"""Samplers: indices in, batches out, planned in advance, the same on every rank, resumable."""

from raybert.sampling.batches import BatchSampler, Plan, RankBatches
from raybert.sampling.cells import hash_cells
from raybert.sampling.choose import BATCH_SAMPLERS, MIXERS, choose_sampler, mix_samplers
from raybert.sampling.grouped import GroupByLabelBatchSampler
from raybert.sampling.mixing import (
    MixedBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)
from raybert.sampling.no_duplicates import NoDuplicatesBatchSampler
from raybert.sampling.shuffled import ShuffledBatchSampler, WindowedBatchSampler

__all__ = [
    "BATCH_SAMPLERS",
    "MIXERS",
    "BatchSampler",
    "GroupByLabelBatchSampler",
    "MixedBatchSampler",
    "NoDuplicatesBatchSampler",
    "Plan",
    "ProportionalBatchSampler",
    "RankBatches",
    "RoundRobinBatchSampler",
    "ShuffledBatchSampler",
    "WindowedBatchSampler",
    "choose_sampler",
    "hash_cells",
    "mix_samplers",
]
