"""Modules with code of their own: refused unless trusted, then run, written and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from raybert.errors import ModelError
from raybert.modules import Opening, open_modules, read_checkpoint

FOREIGN = """
import json, pathlib, torch

class Doubling(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, features):
        features["sentence_embedding"] = features["sentence_embedding"] * self.factor
        return features

    def save(self, folder, *args, **kwargs):
        (pathlib.Path(folder) / "config.json").write_text(json.dumps({"factor": self.factor}))

    @classmethod
    def load(cls, folder, **kwargs):
        return cls(**json.loads((pathlib.Path(folder) / "config.json").read_text()))
"""
OURS = """
from raybert.modules import Module

class Doubling(Module):
    @classmethod
    def load(cls, folder, opening):
        return cls()

    def forward(self, features):
        features["sentence_embedding"] = features["sentence_embedding"] * 2
        return features
"""


@pytest.fixture(params=[FOREIGN, OURS], ids=["foreign", "ours"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "0_Doubling").mkdir(parents=True)
    (root / "0_Doubling" / "config.json").write_text('{"factor": 2}')
    (root / "doubling.py").write_text(request.param)
    entry = {"idx": 0, "name": "0", "path": "0_Doubling", "type": "doubling.Doubling"}
    (root / "modules.json").write_text(json.dumps([entry]))
    return root


def test_refused_unless_trusted(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"'doubling.Doubling' is code of its own.*trust_remote"):
        open_modules(read_checkpoint(folder), Opening())


def test_run_where_trusted_and_written_with_its_code(folder: Path, tmp_path: Path) -> None:
    from raybert.modules.writing import write_modules

    trusted = Opening(trust_remote_code=True)
    (tmp_path / "again").mkdir()
    model = open_modules(read_checkpoint(folder), trusted)
    write_modules(model, tmp_path / "again")
    (entry,) = json.loads((tmp_path / "again" / "modules.json").read_text())
    assert entry["type"] == "doubling.Doubling"
    again = open_modules(read_checkpoint(tmp_path / "again"), trusted)
    found = again({"sentence_embedding": torch.ones(1, 3)})["sentence_embedding"]
    assert found.tolist() == [[2, 2, 2]]


def test_a_known_name_does_not_hide_code(folder: Path) -> None:
    entry = {"idx": 0, "name": "0", "path": "0_Doubling", "type": "doubling.Pooling"}
    (folder / "modules.json").write_text(json.dumps([entry]))
    with pytest.raises(ModelError, match=r"'doubling.Pooling' is code of its own"):
        open_modules(read_checkpoint(folder), Opening())
    with pytest.raises(ModelError, match=r"'doubling.Pooling' cannot be used"):
        open_modules(read_checkpoint(folder), Opening(trust_remote_code=True))
