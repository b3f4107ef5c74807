"""From a table as it lies on disk to the columns a loss takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybert.errors import InputError
from raybert.training.data_settings import DataSettings

SEED = 7
"""Seed of what is drawn while data is read; the same on every rank and in every attempt."""


def shaped(table: pa.Table, settings: DataSettings, where: str) -> pa.Table:
    """Return the chosen columns, lists spread out, and pairs for ContrastiveTensionLoss made.

    Raises:
        InputError: there is no such column, or a list is shorter than asked for.
    """
    table = _selected(table, settings.columns, where)[: settings.rows]
    table = _spread(table, settings.spread, where)
    return table if settings.tension is None else tension_pairs(table, settings.tension, where)


def is_list(kind: pa.DataType) -> bool:
    """Say whether a column holds lists."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Say whether a column holds strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def tension_pairs(table: pa.Table, others: int, where: str = "the data") -> pa.Table:
    """Return pairs of the one text column: each text with itself, and with `others` drawn ones.

    Raises:
        InputError: there is more than one column, or only one row.
    """
    if table.num_columns != 1 or len(table) < 2:
        raise InputError(
            f"{where}: data.tension makes pairs of one text column with two rows at least; there "
            f"are {len(table)} rows of {', '.join(table.column_names)}"
        )
    rows = len(table)
    first = np.repeat(np.arange(rows), 1 + others)
    away = np.random.default_rng(SEED).integers(1, rows, len(first))
    away[:: 1 + others] = 0
    texts = table.column(0)
    return pa.table(
        {
            "sentence_1": texts.take(pa.array(first)),
            "sentence_2": texts.take(pa.array((first + away) % rows)),
            "label": pa.array((away == 0).astype(np.int64)),
        }
    )


def _selected(table: pa.Table, columns: Mapping[str, str], where: str) -> pa.Table:
    """Return the chosen columns under their new names, in order."""
    if not columns:
        return table
    for source in columns.values():
        if source not in table.column_names:
            raise InputError(
                f"{where}: no column {source!r}; the columns are {', '.join(table.column_names)}"
            )
    return pa.table([table.column(source) for source in columns.values()], list(columns))


def _spread(table: pa.Table, counts: Mapping[str, int], where: str) -> pa.Table:
    """Return the table with columns of lists cut to `counts` entries, texts one column each."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        if name in counts:
            columns |= _entries(table.column(name), name, counts[name], where)
        else:
            columns[name] = table.column(name)
    if unknown := [name for name in counts if name not in table.column_names]:
        raise InputError(
            f"{where}: no column {unknown[0]!r} to spread; there are "
            f"{', '.join(table.column_names)}"
        )
    return pa.table(columns)


def _entries(
    column: pa.ChunkedArray, name: str, count: int, where: str
) -> dict[str, pa.ChunkedArray]:
    """Return the first entries of each list: texts as columns `name_1`, ..., numbers as lists."""
    if not is_list(column.type):
        raise InputError(f"{where}: column {name!r} holds {column.type}, no lists to spread")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    if (lengths < count).any():
        row = int((lengths < count).argmax())
        raise InputError(
            f"{where}: row {row} has {lengths[row]} {name}; data.spread asks for {count}"
        )
    if is_text(column.type.value_type):
        return {f"{name}_{at + 1}": pc.list_element(column, at) for at in range(count)}
    return {name: pc.list_slice(column, 0, count)}
