"""The modules by class name, and opening a model folder into them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from raybert.errors import ModelError
from raybert.modules.checkpoint import Checkpoint, ModuleEntry, first_line
from raybert.modules.custom import open_custom
from raybert.modules.module import Module, ModuleSequence, Opening
from raybert.modules.tokenization import transformer_settings

MODULES: dict[str, str] = {
    "Asym": "raybert.modules.router",
    "BoW": "raybert.modules.bow",
    "CLIPModel": "raybert.modules.clip",
    "CNN": "raybert.modules.cnn",
    "Dense": "raybert.modules.dense",
    "Dropout": "raybert.modules.dropout",
    "LSTM": "raybert.modules.lstm",
    "LayerNorm": "raybert.modules.layer_norm",
    "LogitScore": "raybert.modules.logit_score",
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
    "WordEmbeddings": "raybert.modules.word_embeddings",
    "WordWeights": "raybert.modules.word_weights",
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


def class_of(entry: ModuleEntry, root: Path) -> type[Module]:
    """Return the class that opens a line of `modules.json`.

    A Transformer that reads images is a `CLIPModel` by its name up to version 5.3.

    Raises:
        ModelError: no module has this name.
    """
    kind = entry.kind
    if kind == "Transformer" and "image" in transformer_settings(entry.folder).get(
        "modality_config", {}
    ):
        kind = "CLIPModel"
    return module_class(kind, f"model {str(root)!r}")


def open_modules(checkpoint: Checkpoint, opening: Opening) -> ModuleSequence:
    """Open every module of a folder, in order.

    Raises:
        ModelError: a module is of no known kind, or its files cannot be used.
    """
    return ModuleSequence(
        *(open_module(entry, checkpoint.folder, opening) for entry in checkpoint.modules)
    )


def open_module(entry: ModuleEntry, root: Path, opening: Opening) -> Module:
    """Open one module from its own folder."""
    if entry.code is not None:
        return open_custom(entry, root, opening)
    try:
        return class_of(entry, root).load(entry.folder, opening)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"model {str(root)!r}: configuration of {entry.kind} in {entry.folder.name!r} "
            f"cannot be used: {type(error).__name__} {first_line(error)}"
        ) from None


def open_tokenization(checkpoint: Checkpoint, opening: Opening) -> Any:
    """Open only what tokenizes for a model; weights are read only by code of the folder's own.

    Raises:
        ModelError: the first module does not tokenize, or its files cannot be used.
    """
    if not checkpoint.modules:
        first_class = module_class(checkpoint.plain_kind, f"model {str(checkpoint.folder)!r}")
        return first_class.open_tokenization(checkpoint.folder, opening)
    first = checkpoint.modules[0]
    if first.code is None:
        return class_of(first, checkpoint.folder).open_tokenization(first.folder, opening)
    module = open_custom(first, checkpoint.folder, opening)
    tokenization = getattr(module, "tokenization", None)
    if tokenization is None:
        raise ModelError(f"the first module must tokenize; {first.code!r} does not")
    return tokenization
