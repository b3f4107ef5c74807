"""Images as people have them: opened, in a file, as bytes, as an array of pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from raybert.errors import InputError

Picture = Image.Image | Path | str | bytes | np.ndarray[Any, np.dtype[Any]]
"""An image: opened by PIL, a path, a file's bytes, or uint8 pixels [H, W] or [H, W, 3 or 4]."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tiff", ".webp")


def is_image(value: object) -> bool:
    """Tell an image from a text: a string is one only if it ends like one and is a file."""
    if isinstance(value, str):
        return value.lower().endswith(SUFFIXES) and Path(value).is_file()
    pixels = isinstance(value, np.ndarray) and value.ndim > 1
    return pixels or isinstance(value, Image.Image | Path | bytes)


def read_image(value: Picture, row: int) -> Image.Image:
    """Open an image whole, in RGB.

    Raises:
        InputError: it is no image, cannot be read, or has more pixels than PIL holds for safe.
    """
    try:
        return _opened(value, row).convert("RGB")
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"image {row}: {_said(value)} has too many pixels") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        said = "no such file" if isinstance(error, FileNotFoundError) else "is not an image"
        raise InputError(f"image {row}: {_said(value)} {said}") from None


def image_fault(data: bytes) -> str | None:
    """Return why bytes are no image file, by its first bytes alone; None where they may be."""
    try:
        with Image.open(io.BytesIO(data)):
            return None
    except Image.DecompressionBombError:
        return "image has too many pixels"
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return "not an image"


def _opened(value: Picture, row: int) -> Image.Image:
    """Open an image in any of its forms."""
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, bytes):
        return Image.open(io.BytesIO(value))
    if isinstance(value, str | Path):
        return Image.open(value)
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or value.shape[2:] not in ((), (3,), (4,)) or value.ndim < 2:
            raise InputError(
                f"image {row}: array {value.dtype} {list(value.shape)}: uint8 [height, width] or "
                "[height, width, 3 or 4] is expected"
            )
        return Image.fromarray(value)
    raise InputError(f"image {row}: {_said(value)} is not an image")


def _said(value: object) -> str:
    """Say what a value is, in a few characters."""
    if isinstance(value, str | Path):
        return repr(str(value))[:120]
    return type(value).__name__
