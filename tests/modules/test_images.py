from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raybert.errors import InputError
from raybert.modules.images import is_image, read_image


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (4, 3), (9, 8, 7, 255)).save(file, "PNG")
    return file.getvalue()


def test_every_form_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(png())
    pixels = np.full((3, 4), 9, dtype=np.uint8)
    for form in (png(), path, str(path), Image.open(path), pixels, np.stack([pixels] * 4, -1)):
        found = read_image(form, 0)
        assert (found.mode, found.size) == ("RGB", (4, 3))


def test_what_is_an_image(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(png())
    assert is_image(str(tmp_path / "one.png"))
    assert not is_image("a text about one.png")
    assert not is_image(np.array(["a", "b"]))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"GIF89a and no more", "image 3: bytes is not an image"),
        (png()[:40], "image 3: bytes is not an image"),
        ("words", "image 3: 'words' no such file"),
        (3, "image 3: int is not an image"),
        (np.zeros((2, 2, 2), np.uint8), r"image 3: array uint8 \[2, 2, 2\]: uint8 \[height"),
        (np.zeros((2, 2), np.float32), r"image 3: array float32 \[2, 2\]"),
    ],
)
def test_what_is_none(value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_image(value, 3)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    with pytest.raises(InputError, match="too many pixels"):
        read_image(png(), 0)
