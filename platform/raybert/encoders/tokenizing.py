"""The `pre` of every encoder: prompts and tokenization, without the model's weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from raybert.errors import InputError, ModelError
from raybert.modules import (
    Checkpoint,
    Opening,
    RoutedTokenization,
    Text,
    Tokenization,
    locate_model,
    open_tokenization,
    read_checkpoint,
)
from raybert.records import TokenizedTexts

_LOG = logging.getLogger(__name__)

DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names of the prompt for documents, the first one present is taken."""


class Tokenizing:
    """Puts prompts before texts and tokenizes them; threads may share it, and it pickles.

    Args:
        tokenization: tokenizes for the model.
        prompts: prompt by name.
        default_prompt_name: the prompt where none is asked for.
    """

    def __init__(
        self,
        tokenization: Tokenization | RoutedTokenization,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
    ) -> None:
        self.tokenization = tokenization
        self.prompts = {name: prompt or "" for name, prompt in (prompts or {}).items()}
        self.default_prompt_name = default_prompt_name
        if default_prompt_name is not None and default_prompt_name not in self.prompts:
            raise ModelError(self._unknown("default_prompt_name", default_prompt_name))

    def pre(
        self,
        texts: Sequence[Text],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        task: str | None = None,
    ) -> TokenizedTexts:
        """Tokenize texts, each cut to the model's `max_seq_length`, never padded.

        Args:
            texts: strings, or pairs of strings.
            prompt_name: name of the prompt to put before each text.
            prompt: the prompt itself; wins over `prompt_name`, "" means none.
            task: "query" or "document": takes that prompt where none is named.

        Raises:
            InputError: a text is no string, or there is no prompt of this name.
        """
        check_texts(texts)
        before = self.prompt(prompt_name, prompt, task)
        tokenization = self.tokenization.routed(task)
        task = task if tokenization is not self.tokenization else None
        tokens = tokenization.prompted(texts, before) if before else tokenization(texts)
        return replace(tokens, task=task)

    def prompt(
        self, prompt_name: str | None = None, prompt: str | None = None, task: str | None = None
    ) -> str:
        """Return the text to put before each text; "" for none.

        Raises:
            InputError: there is no prompt of this name.
        """
        if prompt is not None:
            if prompt_name is not None:
                _LOG.warning("both prompt and prompt_name are given: prompt is used")
            return prompt
        name = prompt_name or self._task_prompt(task) or self.default_prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise InputError(self._unknown("prompt_name", name))
        return self.prompts[name]

    def _task_prompt(self, task: str | None) -> str | None:
        """Return the name of a task's own prompt, if the model has one."""
        names = {"query": ("query",), "document": DOCUMENT_PROMPTS}.get(task or "", ())
        return next((name for name in names if name in self.prompts), None)

    def _unknown(self, setting: str, name: str) -> str:
        """Say which prompts there are."""
        return f"{setting} {name!r}: this model has {', '.join(self.prompts) or 'no prompts'}"


def open_tokenizing(
    path: str | Path,
    *,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    max_seq_length: int | None = None,
    trust_remote_code: bool = False,
) -> Tokenizing:
    """Open only the tokenizing half of a model folder; no weights are read.

    Raises:
        ModelError: the folder, its configuration or its tokenizer cannot be read.
    """
    checkpoint = read_checkpoint(locate_model(path))
    opening = Opening(trust_remote_code=trust_remote_code)
    tokenization = open_tokenization(checkpoint, opening)
    if max_seq_length is not None:
        tokenization.max_seq_length = max_seq_length
    return tokenizing_of(checkpoint, tokenization, prompts, default_prompt_name)


def tokenizing_of(
    checkpoint: Checkpoint | None,
    tokenization: Tokenization | RoutedTokenization,
    prompts: Mapping[str, str] | None,
    default_prompt_name: str | None,
) -> Tokenizing:
    """Join a tokenization with the folder's prompts; prompts given in code win."""
    settings = {} if checkpoint is None else checkpoint.settings
    merged = {**(settings.get("prompts") or {}), **(prompts or {})}
    return Tokenizing(
        tokenization, merged, default_prompt_name or settings.get("default_prompt_name")
    )


def check_texts(texts: Sequence[Text]) -> None:
    """Refuse what is no text, naming the first such row.

    Raises:
        InputError: `texts` is one string, or holds something else than strings or pairs of them.
    """
    if isinstance(texts, str):
        raise InputError("texts: a list of strings is expected, not one string")
    pairs = bool(texts) and isinstance(texts[0], tuple)
    for row, text in enumerate(texts):
        if pairs:
            fine = isinstance(text, tuple) and list(map(type, text)) == [str, str]
        else:
            fine = isinstance(text, str)
        if not fine:
            expected = "a pair of strings" if pairs else "a string"
            raise InputError(f"text {row}: {expected} is expected, not {_said(text)}")


def _said(value: object) -> str:
    """Say what a value is, in a few characters."""
    return f"{type(value).__name__} {str(value)[:40]!r}"
