"""Payload columns of a live index: a column keeps the type it first had.

Rows come a few at a time and are sealed together later, so what cannot stand in one column with the
rest is refused when it comes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from raybert.errors import InputError
from raybert.index.filters import Filter, passing
from raybert.records import CONTENT, ID, VECTOR

MOST_COLUMNS = 256
"""Payload columns of one live index: each costs every row a cell."""
RESERVED = (ID, VECTOR, CONTENT)
Documents: TypeAlias = pa.Table | Sequence[Mapping[str, Any]]
"""Payload rows: an Arrow table, or one mapping a row."""


def payload_columns(
    documents: Documents | None, rows: int, reserved: Sequence[str] = RESERVED
) -> dict[str, pa.Array]:
    """Return the payload as columns.

    Raises:
        InputError: not as many rows as ids, a reserved name, a column of several types.
    """
    if documents is None:
        return {}
    count = documents.num_rows if isinstance(documents, pa.Table) else len(documents)
    if count != rows:
        raise InputError(f"{count} document(s) for {rows} id(s)")
    if isinstance(documents, pa.Table):
        columns = {name: documents[name].combine_chunks() for name in documents.column_names}
    else:
        names = dict.fromkeys(name for row in documents for name in row)
        columns = {name: _column(name, [row.get(name) for row in documents]) for name in names}
    for name in reserved:
        if name in columns:
            there = ", ".join(reserved)
            raise InputError(f"document column {name!r} is reserved; reserved are {there}")
    return columns


def fitted(columns: Mapping[str, pa.Array], known: pa.Schema) -> dict[str, pa.Array]:
    """Return columns in the types they have in `known`; a new one keeps its own.

    Raises:
        InputError: a column has another type (it is named with both), or there are too many.
    """
    if len(set(known.names).union(columns)) > MOST_COLUMNS:
        raise InputError(f"documents of more than {MOST_COLUMNS} columns in one live index")
    return {
        name: _fitted(name, column, known.field(name).type if name in known.names else pa.null())
        for name, column in columns.items()
    }


def widened(known: pa.Schema, table: pa.Table) -> pa.Schema:
    """Return `known` and the payload columns of `table` that it lacks."""
    fields = {field.name: field for field in known}
    for field in table.schema:
        if field.name not in RESERVED and _is_open(fields.get(field.name)):
            fields[field.name] = field
    return pa.schema(list(fields.values()))


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with every payload column of `schema` that has a type; missing cells empty."""
    own = {name: table[name] for name in table.column_names if name in RESERVED}
    for field in schema:
        if pa.types.is_null(field.type):
            continue
        if field.name in table.column_names:
            own[field.name] = table[field.name].cast(field.type)
        else:
            own[field.name] = pa.nulls(table.num_rows, field.type)
    return pa.table(own)


def packed(schema: pa.Schema) -> str:
    """Return a schema as text."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def unpacked(text: str) -> pa.Schema:
    """Return the schema that `packed` gave as text; "" is one without columns."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text))) if text else pa.schema([])


def check_filter(condition: Filter, schema: pa.Schema) -> None:
    """Refuse a filter that these columns cannot answer.

    Raises:
        InputError: an unknown column or operator, a value of another type.
    """
    passing(condition, conformed(pa.table({ID: pa.array([], pa.large_string())}), schema))


def filter_within(condition: Filter, columns: Sequence[str], schema: pa.Schema) -> Filter:
    """Return a filter in terms of `columns` alone: what it asks of others is asked of empty cells.

    Args:
        condition: a filter on columns of `schema`.
        columns: the columns a segment has, which was sealed before others came.
        schema: all columns.
    """
    empty = conformed(pa.table({ID: pa.array([""], pa.large_string())}), schema)
    parts: list[Filter] = []
    for name, wanted in condition.items():
        if name in ("and", "or"):
            parts.append({name: [filter_within(each, columns, schema) for each in wanted]})
        elif name == "not":
            parts.append({name: filter_within(wanted, columns, schema)})
        elif name in columns:
            parts.append({name: wanted})
        else:
            parts.append(_EVERY if passing({name: wanted}, empty)[0] else _NONE)
    return {"and": parts}


_NONE: Filter = {ID: None}
_EVERY: Filter = {"not": _NONE}


def _is_open(field: pa.Field | None) -> bool:
    return field is None or pa.types.is_null(field.type)


def _column(name: str, values: list[Any]) -> pa.Array:
    try:
        column = pa.array(values)
        empty = pa.types.is_list(column.type) and pa.types.is_null(column.type.value_type)
        return column.cast(pa.list_(pa.string())) if empty else column
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        raise InputError(f"document column {name!r}: its values are of several types") from None


def _fitted(name: str, column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_string(column.type):
        column = column.cast(pa.large_string())
    if pa.types.is_null(wanted) or column.type == wanted:
        return column
    if pa.types.is_null(column.type) or (_is_number(column.type) and _is_number(wanted)):
        try:
            return column.cast(wanted)
        except pa.ArrowInvalid:
            pass  # worded below: a number that the column's type cannot hold
    raise InputError(f"document column {name!r} is {wanted} in this index; given is {column.type}")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
