"""The modules by class name, and opening a model folder into them."""

from __future__ import annotations

import importlib
from pathlib import Path

from raybert.errors import ModelError
from raybert.modules.checkpoint import Checkpoint, ModuleEntry
from raybert.modules.module import Module, ModuleSequence, Opening

MODULES: dict[str, str] = {
    "Asym": "raybert.modules.router",
    "CNN": "raybert.modules.cnn",
    "Dense": "raybert.modules.dense",
    "Dropout": "raybert.modules.dropout",
    "LSTM": "raybert.modules.lstm",
    "LayerNorm": "raybert.modules.layer_norm",
    "MLMTransformer": "raybert.modules.transformer",
    "Normalize": "raybert.modules.normalize",
    "Pooling": "raybert.modules.pooling",
    "Router": "raybert.modules.router",
    "SparseAutoEncoder": "raybert.modules.sparse_auto_encoder",
    "SparseStaticEmbedding": "raybert.modules.sparse_static_embedding",
    "SpladePooling": "raybert.modules.splade_pooling",
    "StaticEmbedding": "raybert.modules.static_embedding",
    "Transformer": "raybert.modules.transformer",
    "WeightedLayerPooling": "raybert.modules.weighted_layer_pooling",
}
"""Class name, as the last part of a type string names it, to the file that holds the class."""


def module_class(kind: str, where: str) -> type[Module]:
    """Return the class of a module by name.

    Raises:
        ModelError: no module has this name.
    """
    if kind not in MODULES:
        known = ", ".join(sorted(MODULES))
        raise ModelError(f"{where}: unknown module type {kind!r}; known are {known}")
    loaded: type[Module] = getattr(importlib.import_module(MODULES[kind]), kind)
    return loaded


def open_modules(checkpoint: Checkpoint, opening: Opening) -> ModuleSequence:
    """Open every module of a folder, in order."""
    return ModuleSequence(
        *(_open(entry, checkpoint.folder, opening) for entry in checkpoint.modules)
    )


def _open(entry: ModuleEntry, root: Path, opening: Opening) -> Module:
    """Open one module from its own folder."""
    if entry.code is not None and entry.kind not in MODULES:
        raise ModelError(f"model {str(root)!r}: module type {entry.code!r} is code of its own")
    return module_class(entry.kind, f"model {str(root)!r}").load(entry.folder, opening)
