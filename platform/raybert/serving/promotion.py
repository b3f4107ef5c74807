"""Following the registry: a promoted model takes its served name while requests go on.

The next version is opened and warmed up beside the one that serves, then one assignment puts it in
place. The one before stays loaded, so that rolling back is at once and indexes that are pinned to
it are still answered; requests under way end on the model they began with. A replica that starts
later opens both, champion and previous: it must answer what its neighbours answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from raybert.artifacts import fingerprint_folder
from raybert.errors import InputError, RaybertError
from raybert.serving.host import ModelHost
from raybert.serving.served_model import ModelSettings, ServedModel, open_served
from raybert.serving.sources import model_folder
from raybert.tracking.registry import CHAMPION, PREVIOUS

LOOK_S = 5.0
"""Seconds between two questions to the registry."""
_DRAIN_S = 10.0
_log = logging.getLogger(__name__)
_audit = logging.getLogger("raybert.serving.audit")


class Promotions:
    """Keeps the models of a host at what their aliases mean.

    Args:
        host: the models, opened.
        models: their settings; those whose path is `models:/NAME@ALIAS` are followed.
    """

    def __init__(self, host: ModelHost, models: Mapping[str, ModelSettings]) -> None:
        self._host = host
        self._models = {
            name: each
            for name, each in models.items()
            if each.path.startswith("models:") and "@" in each.path
        }
        self._folders: dict[str, str] = {}
        self._threads = ThreadPoolExecutor(1, "promotion")
        self._asked = float("-inf")
        self.faults: dict[str, str] = {}
        """Why a name is not at what its alias means, by name."""

    async def follow(self) -> None:
        """Ask the registry and put in place what was promoted; a fault is said, no more."""
        if time.monotonic() - self._asked < LOOK_S:
            return
        self._asked = time.monotonic()
        for name, settings in self._models.items():
            try:
                await self._follow(name, settings)
                self.faults.pop(name, None)
            except RaybertError as error:
                if self.faults.get(name) != str(error):
                    _log.error("model %s is not followed: %s", name, error)
                self.faults[name] = str(error)

    async def _follow(self, name: str, settings: ModelSettings) -> None:
        loop = asyncio.get_running_loop()
        folder = await loop.run_in_executor(self._threads, model_folder, settings.path)
        if folder == self._folders.get(name):
            return
        if name not in self._folders:
            await self._recall(name, settings, folder)
        wanted = await loop.run_in_executor(self._threads, fingerprint_folder, folder)
        before = self._host.earlier.get(name)
        if before is not None and before.card.fingerprint == wanted:
            await put_in_place(self._host, before)
        elif self._host.models[name].card.fingerprint != wanted:
            opened = await loop.run_in_executor(self._threads, self._open, name, settings, folder)
            await opened.check()
            await put_in_place(self._host, opened)
        _audit.info("model=%s fingerprint=%s in place", name, wanted)
        self._folders[name] = folder

    async def _recall(self, name: str, settings: ModelSettings, champion: str) -> None:
        """Open what the name meant before, where the registry knows it."""
        if not settings.path.endswith(f"@{CHAMPION}") or name in self._host.earlier:
            return
        loop = asyncio.get_running_loop()
        path = settings.path.removesuffix(CHAMPION) + PREVIOUS
        try:
            folder = await loop.run_in_executor(self._threads, model_folder, path)
        except InputError:
            return  # it is the first of its name
        if folder == champion:
            return
        before = await loop.run_in_executor(self._threads, self._open, name, settings, folder)
        serving = self._host.models[name]
        serving.card = replace(serving.card, earlier=(before.card.fingerprint,))
        self._host.earlier[name] = before

    def _open(self, name: str, settings: ModelSettings, folder: str) -> ServedModel:
        at_folder = settings.model_copy(update={"path": folder})
        return open_served(name, at_folder, ThreadPoolExecutor(2, f"tokenize-{name}"))


async def put_in_place(host: ModelHost, opened: ServedModel) -> None:
    """Serve a model under its name; the one that served stays, the one before it is let go."""
    name = opened.name
    replaced, gone = host.models[name], host.earlier.get(name)
    opened.card = replace(opened.card, earlier=(replaced.card.fingerprint,))
    host.earlier[name] = replaced
    host.models[name] = opened
    if gone is not None and gone is not opened:
        await _drain(gone)


async def _drain(model: ServedModel) -> None:
    """Let a model finish what waits for it, and stop it; its tokenizing threads may be shared."""
    until = time.monotonic() + _DRAIN_S
    while model.gauges()["queued_tokens"] and time.monotonic() < until:
        await asyncio.sleep(0.05)
    await model.batcher.close()
