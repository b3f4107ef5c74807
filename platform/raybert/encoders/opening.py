"""From a path or modules to what an encoder is built of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from raybert.encoders.tokenizing import Tokenizing, tokenizing_of
from raybert.errors import ModelError
from raybert.modules import (
    Checkpoint,
    Module,
    ModuleSequence,
    Opening,
    RoutedTokenization,
    Tokenization,
    locate_model,
    open_modules,
    read_checkpoint,
)


class Options(TypedDict, total=False):
    """What every encoder takes; `Encoder` says what each means."""

    device: str
    dtype: str
    prompts: Mapping[str, str] | None
    default_prompt_name: str | None
    trust_remote_code: bool
    allow_pickle: bool
    backend: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A model in memory: its modules, its tokenizing half, its settings and its folder."""

    model: ModuleSequence
    tokenizing: Tokenizing
    settings: Mapping[str, Any]
    folder: Path | None


def opened(
    path_or_modules: str | Path | Sequence[Module],
    opening: Opening,
    model_type: str,
    plain: Callable[[Checkpoint, Opening], ModuleSequence],
    prompts: Mapping[str, str] | None,
    default_prompt_name: str | None,
) -> Opened:
    """Open a model folder, or take modules as they are.

    Args:
        path_or_modules: a folder, a hub name, or modules in their order.
        opening: how the folder is opened.
        model_type: the kind of model whose modules are taken as the folder lists them.
        plain: makes modules of a folder of another kind, or without `modules.json`.
        prompts: prompts by name; they win over the folder's.
        default_prompt_name: the prompt where none is asked for.

    Raises:
        ModelError: the folder cannot be read, or there is no tokenizing module.
    """
    if not isinstance(path_or_modules, str | Path):
        model = ModuleSequence(*path_or_modules)
        tokenizing = tokenizing_of(None, _tokenization(model), prompts, default_prompt_name)
        return Opened(model, tokenizing, {}, None)
    checkpoint = read_checkpoint(locate_model(path_or_modules))
    as_listed = bool(checkpoint.modules) and checkpoint.model_type == model_type
    model = (open_modules if as_listed else plain)(checkpoint, opening)
    tokenizing = tokenizing_of(checkpoint, _tokenization(model), prompts, default_prompt_name)
    return Opened(model, tokenizing, checkpoint.settings, checkpoint.folder)


def _tokenization(model: ModuleSequence) -> Tokenization | RoutedTokenization:
    """Return the tokenization of the first module."""
    first = model[0] if len(model) else None
    tokenization = getattr(first, "tokenization", None)
    if not isinstance(tokenization, Tokenization | RoutedTokenization):
        raise ModelError(f"the first module must tokenize; {type(first).__name__} does not")
    return tokenization
