"""Texts that rows name by id: looked up batch by batch, never copied into the rows."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from raybert.errors import InputError


class JoinedTexts:
    """Texts by id, as Arrow columns.

    Args:
        ids: the id of each text; unique.
        texts: the texts.
        where: what to call them in messages.

    Raises:
        InputError: an id comes twice.
    """

    def __init__(self, ids: pa.ChunkedArray, texts: pa.ChunkedArray, where: str) -> None:
        self.ids = ids.cast(pa.string()).combine_chunks()
        self.texts, self.where = texts, where
        if (distinct := len(self.ids.unique())) != len(self.ids):
            raise InputError(f"{where}: {len(self.ids) - distinct} ids come more than once")

    def places(self, ids: pa.ChunkedArray, column: str) -> pa.Array:
        """Return where each id's text lies, int32 [N].

        Raises:
            InputError: an id is not among the texts.
        """
        found = pc.index_in(ids.cast(pa.string()), value_set=self.ids)
        found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
        if found.null_count:
            row = found.is_null().to_pylist().index(True)
            raise InputError(
                f"{self.where}: no text with the id {ids[row].as_py()!r}, which column {column!r} "
                f"has in row {row}"
            )
        return found

    def take(self, places: pa.Array) -> Sequence[str]:
        """Return the texts at some places."""
        taken: list[str] = self.texts.take(places).to_pylist()
        return taken
