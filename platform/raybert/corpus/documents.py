"""Whole rows of a corpus: id, text and what else stands beside them, to be shown with a hit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from raybert.corpus.read import Columns, read_rows
from raybert.corpus.sources import Piece, open_parquet
from raybert.records import ID, VECTOR


def read_documents(pieces: Sequence[Piece], columns: Columns) -> Iterator[pa.Table]:
    """Yield the good rows of every piece as a table: `id`, the text column, then the others.

    Ids are those that encoding gives the rows. Columns beside id and text are kept where the
    file is Parquet.

    Raises:
        InputError: a file is unreadable, or a column is missing.
    """
    for piece in pieces:
        rows = [row for row in read_rows(piece, columns) if row.reason is None]
        table = pa.table(
            {
                ID: pa.array([row.id for row in rows], pa.large_string()),
                columns.text: pa.array([row.text for row in rows], pa.large_string()),
            }
        )
        if piece.format == "parquet":
            taken = pa.array([row.number for row in rows], pa.int64())
            table = _beside(table, _others(piece, columns).take(taken))
        yield table


def _others(piece: Piece, columns: Columns) -> pa.Table:
    with open_parquet(piece.uri) as file:
        left_out = {ID, VECTOR, columns.id, columns.text}
        names = [name for name in file.schema_arrow.names if name not in left_out]
        return file.read_row_group(piece.start, columns=names)


def _beside(table: pa.Table, others: pa.Table) -> pa.Table:
    for name in others.column_names:
        table = table.append_column(others.schema.field(name), others[name])
    return table
