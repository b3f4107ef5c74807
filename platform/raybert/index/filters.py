"""Filters: conditions on the columns kept beside the vectors, as JSON.

A filter is an object of conditions that must all hold: `{"section": "utils"}` is equality,
`{"year": {"gte": 2000, "lt": 2010}}` a range, `{"lang": {"in": ["de", "fr"]}}` a choice;
`and`, `or` (lists of filters) and `not` (a filter) join them. An empty cell fulfils no comparison
but `{"year": null}`; a cell that holds a list fulfils what one of its items does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raybert.errors import InputError

Mask: TypeAlias = npt.NDArray[np.bool_]
Filter: TypeAlias = Mapping[str, Any]

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": pc.equal,
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}
OPERATORS = (*_COMPARISONS, "ne", "in")
"""What a column may be asked, beside plain equality."""
_JOINTS = ("and", "or", "not")
_DEEPEST = 32


def passing(condition: Filter, table: pa.Table | pa.RecordBatch) -> Mask:
    """Say which rows [N] of a table fulfil a filter.

    Args:
        condition: the filter.
        table: rows with their columns.

    Raises:
        InputError: no such column or operator, or a value its column cannot be compared with.
    """
    return _passing(condition, table, _DEEPEST)


def _passing(condition: Any, table: Any, depth: int) -> Mask:
    if not isinstance(condition, Mapping) or not condition:
        raise InputError(f"filter {condition!r}: an object of conditions is expected")
    if not depth:
        raise InputError(f"filter: nested deeper than {_DEEPEST} levels")
    mask = np.ones(table.num_rows, dtype=np.bool_)
    for name, wanted in condition.items():
        if name in _JOINTS:
            mask &= _joined(name, wanted, table, depth - 1)
        else:
            mask &= _column_passing(name, wanted, table)
    return mask


def _joined(joint: str, wanted: Any, table: Any, depth: int) -> Mask:
    if joint == "not":
        return ~_passing(wanted, table, depth)
    if not isinstance(wanted, list | tuple) or not wanted:
        raise InputError(f"filter: {joint!r} takes a list of filters, not {wanted!r}")
    masks = [_passing(part, table, depth) for part in wanted]
    every: Mask = (np.logical_and if joint == "and" else np.logical_or).reduce(masks)
    return every


def _column_passing(name: str, wanted: Any, table: Any) -> Mask:
    names = table.schema.names
    if name not in names:
        raise InputError(f"filter: no column {name!r}; there are {', '.join(names)}")
    asked = wanted if isinstance(wanted, Mapping) else {"eq": wanted}
    if not asked:
        raise InputError(f"filter: column {name!r} is asked nothing; {', '.join(OPERATORS)}")
    mask = np.ones(table.num_rows, dtype=np.bool_)
    for operator, value in asked.items():
        mask &= _cells_passing(name, table.column(name), str(operator), value)
    return mask


def _cells_passing(name: str, column: Any, operator: str, value: Any) -> Mask:
    if operator not in OPERATORS:
        allowed = ", ".join(OPERATORS)
        raise InputError(f"filter: column {name!r}: operator {operator!r}; allowed are {allowed}")
    if operator == "ne":
        return ~_cells_passing(name, column, "eq", value)
    if value is None and operator == "eq":
        return _mask(pc.is_null(column))
    if _is_list(column.type):
        return _any_item(name, column, operator, value)
    try:
        if operator == "in":
            return _mask(pc.is_in(column, value_set=_choices(name, value, column.type)))
        return _mask(_COMPARISONS[operator](column, _scalar(value, column.type)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        raise InputError(
            f"filter: column {name!r} holds {column.type}; "
            f"{operator!r} cannot compare it with {value!r}"
        ) from None


def _any_item(name: str, column: Any, operator: str, value: Any) -> Mask:
    mask = np.zeros(len(column), dtype=np.bool_)
    start = 0
    for part in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        found = _cells_passing(name, pc.list_flatten(part), operator, value)
        rows = pc.list_parent_indices(part).to_numpy(zero_copy_only=False)
        mask[start + rows[found]] = True
        start += len(part)
    return mask


def _choices(name: str, values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise InputError(f"filter: column {name!r}: 'in' takes a list, not {values!r}")
    known = [value for value in values if value is not None]
    return pa.array(known).cast(kind) if known else pa.array([], kind)


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    scalar = pa.scalar(value)
    return scalar.cast(kind) if pa.types.is_temporal(kind) else scalar


def _mask(found: Any) -> Mask:
    """Return Arrow truth values as an array; an empty cell passes nothing."""
    flags = found.fill_null(False)
    return np.asarray(
        flags.to_numpy()
        if isinstance(flags, pa.ChunkedArray)
        else flags.to_numpy(zero_copy_only=False)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
