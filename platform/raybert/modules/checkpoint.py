"""Reading a Sentence Transformers folder: which modules, where, with which weights.

Every generation of the format is read: type strings old and new are resolved by their class name,
never by importing them. Nothing is unpickled unless the user asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from raybert.errors import ModelError

SAFE_WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
CONFIG_LIMIT = 64 * 1024 * 1024
"""Bytes: a configuration file larger than this is refused."""

_KNOWN_ROOTS = ("sentence_transformers.", "pylate.")


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """One line of `modules.json`: the class name, where its files lie, its forward arguments."""

    name: str
    kind: str
    folder: Path
    code: str | None = None
    kwargs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model folder as its configuration files describe it; no weights are read yet.

    `modules` is empty for a plain transformers folder (no `modules.json`).
    """

    folder: Path
    modules: tuple[ModuleEntry, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_type(self) -> str | None:
        """The kind of model the folder says it is; None for a plain transformers folder."""
        stated = self.settings.get("model_type")
        return stated or ("SentenceTransformer" if self.modules else None)

    @property
    def transformer(self) -> Path:
        """The folder with the transformer's own files."""
        return self.modules[0].folder if self.modules else self.folder

    @property
    def architecture(self) -> str:
        """The transformers class that the folder names, such as `BertForMaskedLM`."""
        names = read_config(self.transformer / "config.json", default={}).get("architectures")
        return str((names or [""])[0])

    @property
    def plain_kind(self) -> str:
        """The module that opens a folder without `modules.json`."""
        if self.architecture == "CLIPModel":
            return "CLIPModel"
        config = read_config(self.folder / "config.json", default={})
        return "StaticEmbedding" if config.get("model_type") == "model2vec" else "Transformer"


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read `modules.json` and `config_sentence_transformers.json` of a model folder.

    Raises:
        ModelError: no such folder, no model in it, or a file that cannot be what it should be.
    """
    if not folder.is_dir():
        raise ModelError(f"model {str(folder)!r}: no such folder")
    settings = read_config(folder / "config_sentence_transformers.json", default={})
    listing = folder / "modules.json"
    if not listing.exists():
        if not any((folder / name).exists() for name in ("config.json", "adapter_config.json")):
            raise ModelError(f"model {str(folder)!r}: has neither modules.json nor config.json")
        return Checkpoint(folder, (), settings)
    entries = read_config(listing, kind=list)
    return Checkpoint(folder, tuple(_entry(folder, entry) for entry in entries), settings)


def read_config(path: Path, *, default: Any = None, kind: type = dict) -> Any:
    """Read a JSON file; `default` stands in for a missing one, if given.

    Raises:
        ModelError: the file is missing, too large, no JSON, or no mapping (list, if so asked).
    """
    if not path.exists():
        if default is None:
            raise ModelError(f"model file {str(path)!r} is missing")
        return default
    if path.stat().st_size > CONFIG_LIMIT:
        raise ModelError(f"model file {str(path)!r}: larger than {CONFIG_LIMIT >> 20} MiB")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"model file {str(path)!r}: is no JSON: {error}") from None
    if not isinstance(value, kind):
        expected = "a list" if kind is list else "a mapping"
        raise ModelError(f"model file {str(path)!r}: {expected} is expected")
    return value


def write_config(path: Path, value: Any) -> None:
    """Write a JSON file as Sentence Transformers does: indented, in the order given."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def module_folder(root: Path, relative: str) -> Path:
    """Return a module's folder, which must lie inside the model's.

    Raises:
        ModelError: the path leads out of the model's folder.
    """
    folder = (root / relative).resolve()
    if not folder.is_relative_to(root.resolve()):
        raise ModelError(f"model {str(root)!r}: module path {relative!r} leads out of the folder")
    return root / relative


def module_entry(
    root: Path, path: str, type_name: str, name: str = "", kwargs: tuple[str, ...] = ()
) -> ModuleEntry:
    """Return what a type string and a path say of a module: its class by name, or its own code."""
    kind = type_name.rsplit(".", 1)[-1]
    code = None if type_name.startswith(_KNOWN_ROOTS) else type_name
    return ModuleEntry(name, kind, module_folder(root, path), code, kwargs)


def read_weights(folder: Path, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """Read a module's tensors: safetensors, or on request the pickled file.

    Raises:
        ModelError: no weights, pickled weights not asked for, or an unreadable file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_file(folder, allow_pickle=allow_pickle)
    try:
        if path.name == PICKLED_WEIGHTS:
            loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
            return loaded
        tensors: dict[str, Tensor] = load_file(path)
    except UnpicklingError:
        raise ModelError(f"weights {str(path)!r}: hold more than tensors; refused") from None
    except (SafetensorError, RuntimeError, OSError, EOFError) as error:
        raise ModelError(f"weights {str(path)!r}: cannot be read: {first_line(error)}") from None
    return tensors


def weights_file(folder: Path, *, allow_pickle: bool = False) -> Path:
    """Return the file that holds a module's weights, preferring safetensors.

    Raises:
        ModelError: there is none, or only a pickled one that was not asked for.
    """
    for name in (SAFE_WEIGHTS, f"{SAFE_WEIGHTS}.index.json", ADAPTER_WEIGHTS):
        if (folder / name).exists():
            return folder / name
    pickled = folder / PICKLED_WEIGHTS
    if not pickled.exists() and (folder / f"{PICKLED_WEIGHTS}.index.json").exists():
        pickled = folder / f"{PICKLED_WEIGHTS}.index.json"
    if not pickled.exists():
        raise ModelError(f"model folder {str(folder)!r}: has no weights ({SAFE_WEIGHTS})")
    if not allow_pickle:
        raise ModelError(
            f"model folder {str(folder)!r}: its weights are pickled ({pickled.name}), which can "
            "carry code; convert them to safetensors, or pass allow_pickle=True"
        )
    return pickled


def fill(module: nn.Module, folder: Path, *, allow_pickle: bool = False) -> None:
    """Load a folder's weights into a small module, whole or not at all.

    Raises:
        ModelError: names or shapes differ, or a value is not finite.
    """
    try:
        module.load_state_dict(read_weights(folder, allow_pickle=allow_pickle))
    except RuntimeError as error:
        raise ModelError(f"weights of {str(folder)!r} do not fit: {first_line(error)}") from None
    check_finite(module, folder)


def check_finite(module: nn.Module, folder: Path) -> None:
    """Refuse weights that are NaN or infinite, naming the first tensor.

    Raises:
        ModelError: a tensor holds a value that is not finite.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.sum())):
            raise ModelError(f"weights of {str(folder)!r}: {name} holds NaN or infinite values")


def save_weights(module: nn.Module, folder: Path) -> None:
    """Write a module's tensors as safetensors."""
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous().cpu() for name, tensor in module.state_dict().items()}
    save_file(tensors, folder / SAFE_WEIGHTS, metadata={"format": "pt"})


def first_line(error: object) -> str:
    """Fold a message into one short line."""
    return " ".join(str(error).split())[:300]


def _entry(root: Path, entry: Any) -> ModuleEntry:
    """Check one line of `modules.json`."""
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise ModelError(f"model {str(root)!r}: modules.json: every entry needs a 'type'")
    path = entry.get("path", "")
    if not isinstance(path, str):
        raise ModelError(f"model {str(root)!r}: modules.json: path {path!r} is no string")
    kwargs = tuple(str(name) for name in entry.get("kwargs", ()))
    return module_entry(root, path, entry["type"], str(entry.get("name", "")), kwargs)
