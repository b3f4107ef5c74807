from __future__ import annotations

import json
from pathlib import Path

import pytest

from raybert.errors import ModelError
from raybert.modules import MODULES, Opening, module_class, open_modules, read_checkpoint


def test_every_registered_module_is_there() -> None:
    for kind in MODULES:
        assert module_class(kind, "here").__name__ == kind


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    entry = {"path": "", "type": "sentence_transformers.models.Oracle"}
    (tmp_path / "modules.json").write_text(json.dumps([entry]))
    with pytest.raises(ModelError, match=r"unknown module type 'Oracle'; known are .*Pooling"):
        open_modules(read_checkpoint(tmp_path), Opening())


def test_code_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "", "type": "my_code.Module"}]))
    with pytest.raises(ModelError, match=r"'my_code.Module' is code of its own"):
        open_modules(read_checkpoint(tmp_path), Opening())
