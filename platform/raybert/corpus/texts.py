"""Small sets of texts read whole: queries, or a corpus to evaluate on."""

from __future__ import annotations

from collections.abc import Sequence

from raybert.corpus.read import Columns, read_rows
from raybert.corpus.sources import cut_into_pieces, find_files
from raybert.errors import InputError


def read_texts(patterns: Sequence[str], columns: Columns) -> dict[str, str]:
    """Read files whole: text by id, in file order.

    Raises:
        InputError: no such file, a bad row or an id that stands twice (it is named), or no row.
    """
    texts: dict[str, str] = {}
    for piece in cut_into_pieces(find_files(patterns)):
        for row in read_rows(piece, columns):
            reason = "duplicate id" if row.id in texts else row.reason
            if reason is not None:
                raise InputError(f"{piece.uri}, row {row.number} (id {row.id!r}): {reason}")
            texts[row.id] = row.text
    if not texts:
        raise InputError(f"{', '.join(patterns)}: the files hold no row")
    return texts
