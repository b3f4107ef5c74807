from __future__ import annotations

from pathlib import Path

import pytest

from raybert.errors import SettingsError
from raybert.jobs import checkout_of
from raybert.jobs.checkout import extra_requirements


def test_extras_are_installed_as_pinned(root: Path) -> None:
    (found,) = extra_requirements(root, ["s3"])
    assert found in (root / "constraints.txt").read_text().split()
    assert found.startswith("s3fs==")
    assert any(line.startswith("faiss-cpu==") for line in extra_requirements(root, ["s3", "cpu"]))


def test_an_unknown_extra_is_one_line(root: Path) -> None:
    with pytest.raises(SettingsError, match=r"extra 'onyx': allowed are .*onnx"):
        extra_requirements(root, ["onyx"])


def test_a_file_outside_a_checkout_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "job.py").touch()
    with pytest.raises(SettingsError, match="lies in no checkout"):
        checkout_of(tmp_path / "job.py")
