"""Numbers for cells: equal values, and only they, have the same number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

NOT_COMPARED = ("label", "labels", "score", "scores", "dataset_name")
"""Columns that may be equal within a batch."""


def hash_cells(
    columns: Mapping[str, Sequence[Any]], not_compared: Sequence[str] = NOT_COMPARED
) -> npt.NDArray[np.uint64]:
    """Return the xxHash64 of every cell.

    Args:
        columns: values by column, all of one length; texts, lists, numbers, bytes, images.
        not_compared: columns to leave out.

    Returns:
        Array [rows, compared columns]. A value counts by how it is written (`str`), bytes and
        pictures by their content, so 1 and "1" are equal, in any two columns.
    """
    compared = [values for name, values in columns.items() if name not in not_compared]
    hashes = [
        np.fromiter((_hash(value) for value in values), dtype=np.uint64, count=len(values))
        for values in compared
    ]
    rows = len(next(iter(columns.values()))) if columns else 0
    return np.stack(hashes, axis=1) if hashes else np.empty((rows, 0), dtype=np.uint64)


def _hash(value: Any) -> int:
    if isinstance(value, bytes):
        return xxhash.xxh64_intdigest(value)
    if hasattr(value, "tobytes") and hasattr(value, "size"):
        return xxhash.xxh64_intdigest(repr(value.size).encode() + value.tobytes())
    return xxhash.xxh64_intdigest(str(value).encode("utf-8", "surrogatepass"))
