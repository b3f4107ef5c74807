"""Laws every sampler obeys, and data for the reference implementation's samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from raybert.sampling import BatchSampler, RankBatches


class Table:
    """As much of a `datasets.Dataset` as the reference implementation's samplers use."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = columns
        self.column_names = list(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        return {name: values[key] for name, values in self.columns.items()}

    def remove_columns(self, names: Sequence[str]) -> Table:
        return Table({name: each for name, each in self.columns.items() if name not in names})


@pytest.fixture(scope="session")
def table() -> type[Table]:
    """Data as the reference implementation's samplers take it."""
    return Table


@pytest.fixture(scope="session")
def obey_laws() -> Callable[..., None]:
    """Check what holds for every sampler, whatever its batches are."""

    def check(make: Callable[[], BatchSampler], world: int, step: int) -> None:
        whole = make()
        planned = [len(whole)]
        batches = list(whole)
        assert planned == [len(batches)], "the length is exact and known in advance"
        assert (whole.epoch, whole.step) == (1, 0), "the next epoch comes by itself"
        assert list(make()) == batches, "equal on every process"

        ranks = [list(RankBatches(make(), rank, world)) for rank in range(world)]
        joined = [[row for part in parts for row in part] for parts in zip(*ranks, strict=True)]
        assert joined == batches, "the ranks together have the whole, in its order"
        sizes = [{len(part) for part in parts} for parts in zip(*ranks, strict=True)]
        assert all(max(each) - min(each) <= 1 for each in sizes)

        stopped = make()
        handed = [batch for _, batch in zip(range(step), stopped, strict=False)]
        resumed = make()
        resumed.load_state_dict(stopped.state_dict())
        rest = list(resumed) if handed == batches[:step] and step < len(batches) else []
        assert handed + rest == batches[: max(step, len(batches))], "a resumed run goes on"
        resumed.set_epoch(5)
        fifth = make()
        fifth.set_epoch(5)
        assert list(resumed) == list(fifth), "an epoch does not depend on what came before"

    return check
