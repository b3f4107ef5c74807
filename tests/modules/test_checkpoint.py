from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from raybert.errors import ModelError
from raybert.modules import read_checkpoint
from raybert.modules.checkpoint import (
    CONFIG_LIMIT,
    fill,
    read_config,
    read_weights,
    save_weights,
)


def folder(path: Path, modules: Any, **settings: Any) -> Path:
    (path / "modules.json").write_text(json.dumps(modules))
    if settings:
        (path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Pooling.Pooling",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "sentence_transformers.sparse_encoder.models.Pooling",
    ],
)
def test_types_old_and_new_are_told_by_their_class(tmp_path: Path, kind: str) -> None:
    entry = {"idx": 0, "name": "0", "path": "0_Pooling", "type": kind, "kwargs": ["task"]}
    (module,) = read_checkpoint(folder(tmp_path, [entry])).modules
    assert (module.kind, module.code, module.kwargs) == ("Pooling", None, ("task",))
    assert module.folder == tmp_path / "0_Pooling"


def test_code_of_its_own_is_told_apart(tmp_path: Path) -> None:
    entry = {"path": "", "type": "owner/name--modeling.MyModule"}
    (module,) = read_checkpoint(folder(tmp_path, [entry])).modules
    assert module.code == "owner/name--modeling.MyModule"


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "a/../../b"])
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    entry = {"path": path, "type": "sentence_transformers.models.Normalize"}
    with pytest.raises(ModelError, match="leads out of the folder"):
        read_checkpoint(folder(tmp_path, [entry]))


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ({}, "a list is expected"),
        (["x"], "every entry needs a 'type'"),
        ([{"path": ""}], "every entry needs a 'type'"),
        ([{"path": 3, "type": "a.B"}], "path 3 is no string"),
    ],
)
def test_a_listing_that_is_none(tmp_path: Path, modules: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_checkpoint(folder(tmp_path, modules))


def test_kind_of_model(tmp_path: Path) -> None:
    entry = {"path": "", "type": "sentence_transformers.models.Transformer"}
    assert read_checkpoint(folder(tmp_path, [entry])).model_type == "SentenceTransformer"
    checkpoint = read_checkpoint(folder(tmp_path, [entry], model_type="CrossEncoder"))
    assert checkpoint.model_type == "CrossEncoder"
    (tmp_path / "modules.json").unlink()
    (tmp_path / "config_sentence_transformers.json").unlink()
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    plain = read_checkpoint(tmp_path)
    assert (plain.model_type, plain.architecture) == (None, "BertModel")


def test_no_model_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has neither modules.json nor config.json"):
        read_checkpoint(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        read_checkpoint(tmp_path / "nowhere")


def test_configurations_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ModelError, match="is missing"):
        read_config(path)
    path.write_bytes(b"\xff{}")
    with pytest.raises(ModelError, match="is no JSON"):
        read_config(path)
    path.write_text("[1]")
    with pytest.raises(ModelError, match="a mapping is expected"):
        read_config(path)
    with path.open("wb") as file:
        file.truncate(CONFIG_LIMIT + 1)
    with pytest.raises(ModelError, match="larger than 64 MiB"):
        read_config(path)


def test_weights_saved_and_read(tmp_path: Path) -> None:
    linear = nn.Linear(3, 2)
    save_weights(linear, tmp_path)
    again = nn.Linear(3, 2)
    fill(again, tmp_path)
    assert torch.equal(again.weight, linear.weight)


def test_pickled_weights_only_when_asked_for(tmp_path: Path) -> None:
    linear = nn.Linear(3, 2)
    torch.save(linear.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickled \(pytorch_model.bin\).*allow_pickle=True"):
        read_weights(tmp_path)
    assert set(read_weights(tmp_path, allow_pickle=True)) == {"weight", "bias"}


class Malice:
    """What a pickle could do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("touched-by-a-pickle"),))


def test_pickles_run_no_code_even_when_asked_for(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Malice()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="hold more than tensors; refused"):
        read_weights(tmp_path, allow_pickle=True)
    assert not (tmp_path / "touched-by-a-pickle").exists()


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, "do not fit.*weight"),
        ({"weight": torch.zeros(2, 3)}, "do not fit.*bias"),
        (
            {"weight": torch.full((2, 3), float("nan")), "bias": torch.zeros(2)},
            "weight holds NaN or infinite",
        ),
    ],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, tensors: dict[str, torch.Tensor], said: str
) -> None:
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=said):
        fill(nn.Linear(3, 2), tmp_path)


def test_weights_cut_off(tmp_path: Path) -> None:
    save_weights(nn.Linear(30, 20), tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        read_weights(tmp_path)
