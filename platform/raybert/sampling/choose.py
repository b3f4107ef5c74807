"""From a sampler's name to the sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raybert.errors import InputError, SettingsError
from raybert.sampling.batches import BatchSampler
from raybert.sampling.cells import hash_cells
from raybert.sampling.grouped import GroupByLabelBatchSampler
from raybert.sampling.mixing import (
    MixedBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)
from raybert.sampling.no_duplicates import NoDuplicatesBatchSampler
from raybert.sampling.shuffled import ShuffledBatchSampler

BATCH_SAMPLERS = ("batch_sampler", "no_duplicates", "no_duplicates_hashed", "group_by_label")
"""Samplers of one dataset; both names for no duplicates mean the hashed one."""
MIXERS: dict[str, type[MixedBatchSampler]] = {
    "proportional": ProportionalBatchSampler,
    "round_robin": RoundRobinBatchSampler,
}
"""Samplers over several datasets."""


def choose_sampler(
    name: str,
    columns: Mapping[str, Sequence[Any]],
    batch_size: int,
    *,
    drop_last: bool = False,
    seed: int = 0,
    label_columns: Sequence[str] = ("label", "labels", "score", "scores"),
) -> BatchSampler:
    """Return the sampler called `name` over data with these columns.

    Raises:
        SettingsError: there is no such sampler, or its batch size is not allowed.
        InputError: `group_by_label` finds no label column.
    """
    if name not in BATCH_SAMPLERS:
        raise SettingsError(f"batch sampler {name!r}: allowed are {', '.join(BATCH_SAMPLERS)}")
    if name == "batch_sampler":
        rows = len(next(iter(columns.values()))) if columns else 0
        return ShuffledBatchSampler(rows, batch_size, drop_last, seed)
    if name == "group_by_label":
        labels = next((columns[column] for column in label_columns if column in columns), None)
        if labels is None:
            raise InputError(
                f"group_by_label needs a column {', '.join(label_columns)}; the data has "
                f"{', '.join(columns)}"
            )
        return GroupByLabelBatchSampler(labels, batch_size, drop_last, seed)
    return NoDuplicatesBatchSampler(hash_cells(columns), batch_size, drop_last, seed)


def mix_samplers(name: str, parts: Sequence[BatchSampler], seed: int = 0) -> MixedBatchSampler:
    """Return the sampler called `name` over several datasets' samplers.

    Raises:
        SettingsError: there is no such mixing.
    """
    if name not in MIXERS:
        raise SettingsError(f"mixing {name!r}: allowed are {', '.join(MIXERS)}")
    return MIXERS[name](parts, seed)
