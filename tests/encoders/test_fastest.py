from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raybert.encoders import fastest
from raybert.errors import ModelError

SECONDS = {"torch": 3.0, "torch:int8": 1.0, "onnx:model_qint8_avx2.onnx": 2.0}


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Choose among back ends of known speed, one of which cannot be opened."""
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(fastest, "available_backends", lambda folder: list(SECONDS))
    monkeypatch.setattr(fastest, "seconds_of", SECONDS.__getitem__)

    def chosen(broken: str | None = None) -> str:
        def opened(name: str) -> Any:
            if name == broken:
                raise ModelError(f"{name} cannot be opened")
            return name

        return fastest.fastest_backend(tmp_path, opened)

    return chosen


def test_the_fastest_is_taken(choose: Any) -> None:
    assert choose() == "torch:int8"


def test_a_stack_that_is_not_packed_in_eight_bits_is_no_candidate(choose: Any) -> None:
    assert choose("torch:int8") == "onnx:model_qint8_avx2.onnx"
    with pytest.raises(ModelError, match="onnx"):
        choose("onnx:model_qint8_avx2.onnx")
