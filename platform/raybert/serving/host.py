"""Several served models in one process: opened by name, asked by name, checked together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Self

from pydantic import BeforeValidator

from raybert.devices import cpu_count, set_threads
from raybert.errors import SettingsError
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.messages import ModelCard
from raybert.serving.preparing import Piece
from raybert.serving.served_model import ModelSettings, ServedModel, open_served
from raybert.serving.stages import Gauges

ModelSpec = Annotated[
    ModelSettings,
    BeforeValidator(lambda value: {"path": value} if isinstance(value, str) else value),
]
"""A model's settings, or just its path."""


class ModelHost:
    """Models by name, in one process.

    Args:
        models: opened models; their names must differ.
    """

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self.models = {model.name: model for model in models}
        self.earlier: dict[str, ServedModel] = {}
        """What a name meant before, still asked for by fingerprint."""

    @classmethod
    def open(cls, models: Mapping[str, ModelSettings], threads: int | None = None) -> Self:
        """Open every model; torch gets `threads` threads, by default all cores of the process.

        Raises:
            SettingsError: no model is named.
            ModelError: a model cannot be read.
        """
        if not models:
            raise SettingsError("models: name at least one (models: {name: path})")
        set_threads(threads or cpu_count())
        tokenizing = ThreadPoolExecutor(2, "tokenize")
        return cls([open_served(name, each, tokenizing) for name, each in models.items()])

    def pick(self, name: str, capability: str, fingerprint: str | None = None) -> ServedModel:
        """Return the model called `name`, which must be able to do `capability`.

        Args:
            name: served name.
            capability: what it must be able to do.
            fingerprint: the very model; the name's earlier one is looked at too.

        Raises:
            RequestError: `UNKNOWN_NAME` or `WRONG_TASK`.
        """
        model = self.named(name)
        before = self.earlier.get(name)
        if before is not None and before.card.fingerprint == fingerprint:
            model = before
        model.require(capability)
        return model

    def named(self, name: str) -> ServedModel:
        """Return the model called `name`.

        Raises:
            RequestError: `UNKNOWN_NAME`.
        """
        if name not in self.models:
            raise unknown_model(name, self.models)
        return self.models[name]

    async def pieces(
        self, name: str, texts: Sequence[str], special_tokens: bool, prompt_name: str | None
    ) -> list[list[Piece]]:
        """Return the tokens of texts with their places; see `Preparation.pieces`."""
        model = self.named(name)
        split = model.preparation.pieces
        return await model.beside(lambda: split(texts, special_tokens, prompt_name))

    async def decode(
        self, name: str, ids: Sequence[Sequence[int]], skip_special_tokens: bool
    ) -> list[str]:
        """Return the texts that token ids stand for; see `Preparation.decode`."""
        model = self.named(name)
        return await model.beside(lambda: model.preparation.decode(ids, skip_special_tokens))

    async def cards(self) -> list[ModelCard]:
        """Return what is served here."""
        return [model.card for model in self.models.values()]

    async def gauges(self) -> Gauges:
        """Return each model's batcher counters."""
        return {name: model.gauges() for name, model in self.models.items()}

    async def check(self) -> None:
        """Send a canary through every model.

        Raises:
            ModelError: a model does not answer.
        """
        await asyncio.gather(*(model.check() for model in self.models.values()))

    async def close(self) -> None:
        """Stop every model."""
        await asyncio.gather(*(model.close() for model in self.models.values()))


def unknown_model(name: str, served: Iterable[str]) -> RequestError:
    """Return the fault of a request for a model that is not served."""
    names = ", ".join(repr(each) for each in sorted(served)) or "none"
    message = f"the model {name!r} is not served here; served are: {names}"
    return RequestError(FaultKind.UNKNOWN_NAME, message, "model")
