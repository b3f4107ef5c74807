"""Modules whose Python code lies in the model's folder; run only where the user trusts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from raybert.errors import ModelError
from raybert.modules.checkpoint import ModuleEntry, first_line
from raybert.modules.module import Features, Module, Opening
from raybert.modules.tokenization import Tokenization

WIDTHS = ("get_embedding_dimension", "get_sentence_embedding_dimension")


class CustomModule(Module):
    """A foreign module (one written for Sentence Transformers) behind this house's face.

    Args:
        inner: the module; it takes features and returns them.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        tokenizer = getattr(inner, "tokenizer", None)
        if tokenizer is not None:
            self.tokenization = Tokenization(tokenizer, getattr(inner, "max_seq_length", None))

    @property
    def written(self) -> nn.Module:
        """The module whose class and code are written."""
        return self.inner

    def save(self, folder: Path) -> None:
        """Write the module as it writes itself."""
        inner: Any = self.inner
        inner.save(str(folder))

    def width(self, width: int = 0) -> int:
        """Return the width the module states, else the width before it."""
        stated = next(
            (getattr(self.inner, name) for name in WIDTHS if hasattr(self.inner, name)), None
        )
        found = stated() if stated is not None else None
        return width if found is None else int(found)

    def forward(self, features: Features) -> Features:
        """Run the module."""
        found: Features = self.inner(features)
        return found


def open_custom(entry: ModuleEntry, root: Path, opening: Opening) -> Module:
    """Run the folder's code and open its module: this house's kind, or Sentence Transformers'.

    Raises:
        ModelError: the code is not trusted, is not there, or fails.
    """
    if not opening.trust_remote_code:
        raise ModelError(
            f"model {str(root)!r}: module type {entry.code!r} is code of its own; read it, then "
            "pass trust_remote_code=True"
        )
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    try:
        found: Any = get_class_from_dynamic_module(entry.code, str(root))
        if issubclass(found, Module):
            own: Module = found.load(entry.folder, opening)
            return own
        return CustomModule(found.load(str(entry.folder)))
    except Exception as error:  # noqa: BLE001 foreign code raises every kind
        raise ModelError(
            f"model {str(root)!r}: module {entry.code!r} cannot be used: {first_line(error)}"
        ) from None


def copy_code(module: Module, root: Path) -> None:
    """Put the code of a module of its own beside `modules.json`."""
    from transformers.dynamic_module_utils import custom_object_save

    custom_object_save(module.written, str(root))
