"""Cells that hold an image: the bytes of a file, the path of one, or a cell of `datasets`."""

from __future__ import annotations

import posixpath
from typing import Any

from raybert.corpus.sources import open_file
from raybert.errors import InputError
from raybert.modules.images import image_fault


def read_image_cell(cell: Any, near: str) -> tuple[bytes, str | None]:
    """Return the bytes of an image, and why they cannot be used (None if they can).

    Args:
        cell: bytes, a path or address, or `{"bytes": …, "path": …}`.
        near: the file the cell stands in; paths are taken from its folder on.
    """
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if cell is None or cell == "":
        return b"", "null image"
    if isinstance(cell, str):
        try:
            with open_file(posixpath.join(posixpath.dirname(near), cell)) as file:
                cell = file.read()
        except (InputError, OSError):
            return b"", f"image {cell!r} cannot be read"
    if not isinstance(cell, bytes):
        return b"", f"image is {type(cell).__name__}, not bytes or a path"
    return cell, image_fault(cell)
