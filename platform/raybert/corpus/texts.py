"""Small sets of texts read whole: queries, or a corpus to evaluate on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raybert.corpus.read import Columns, Row, read_rows
from raybert.corpus.sources import cut_into_pieces, find_files
from raybert.errors import InputError


def read_texts(patterns: Sequence[str], columns: Columns) -> dict[str, str]:
    """Read files whole: text by id, in file order.

    Raises:
        InputError: no such file, a bad row or an id that stands twice (it is named), or no row.
    """
    return {row.id: row.text for row in _rows(patterns, columns)}


def read_contents(patterns: Sequence[str], columns: Columns) -> dict[str, str | bytes]:
    """Read files whole: what is encoded of each row, text or the bytes of an image, by id.

    Raises:
        InputError: as of `read_texts`.
    """
    return {row.id: row.content for row in _rows(patterns, columns)}


def _rows(patterns: Sequence[str], columns: Columns) -> Iterator[Row]:
    seen: set[str] = set()
    for piece in cut_into_pieces(find_files(patterns)):
        for row in read_rows(piece, columns):
            reason = "duplicate id" if row.id in seen else row.reason
            if reason is not None:
                raise InputError(f"{piece.uri}, row {row.number} (id {row.id!r}): {reason}")
            seen.add(row.id)
            yield row
    if not seen:
        raise InputError(f"{', '.join(patterns)}: the files hold no row")
