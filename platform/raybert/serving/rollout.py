"""Following the generations of an index: a switch or a roll-back is taken up while serving.

The next generation is opened and pinned to its models beside the searches; then one assignment puts
it in place, and searches under way end on the generation they began with. One that cannot be
opened, or whose model is not served, is left out and said: the one in place goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from raybert.errors import ArtifactError, RaybertError
from raybert.index.generations import Canary, Generations, History
from raybert.serving.directory import Directory
from raybert.serving.generation import Generation
from raybert.serving.messages import ModelCard

LOOK_S = 0.5
"""Seconds between two looks at what is current."""
_KEPT = 3
_log = logging.getLogger(__name__)
_audit = logging.getLogger("raybert.serving.audit")


class Rollout:
    """What is in place of one index name with generations, kept up with what is current.

    Args:
        generation: the one that was current when it was opened.
    """

    def __init__(self, generation: Generation) -> None:
        assert generation.root is not None, "only a name with generations is followed"
        self.generation = generation
        self.canary: tuple[Generation, Canary] | None = None
        """What is tried beside it."""
        self.fault = ""
        """Why what is current is not in place; empty where it is."""
        self._generations = Generations(generation.root)
        self._threads = ThreadPoolExecutor(1, "rollout")
        self._opened = {generation.record: generation}
        self._history = History()
        self._looked = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    def look(self, models: Directory) -> None:
        """Look, beside the searches, whether another generation is current by now."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self.follow(models))

    async def follow(self, models: Directory) -> None:
        """Put in place what is current now; what cannot be is said and left out."""
        loop = asyncio.get_running_loop()
        try:
            history = await loop.run_in_executor(self._threads, lambda: self._generations.history)
            if history != self._history:
                await self._take_up(history, models)
            self._history, self.fault = history, ""
        except RaybertError as error:
            if str(error) != self.fault:
                _log.error("index %s: %s", self.generation.name, error)
            self.fault = str(error)
        finally:
            self._looked = time.monotonic()

    def tried(self, query: str) -> Canary | None:
        """Return the canary if this query is one of those it is tried on."""
        if self.canary is None:
            return None
        canary = self.canary[1]
        drawn = zlib.crc32(query.encode("utf-8", "surrogatepass")) / 2**32
        return canary if drawn < canary.share else None

    async def _take_up(self, history: History, models: Directory) -> None:
        if history.current is None:
            raise ArtifactError(f"{self._generations.folder}: no generation is current")
        self.generation = await self._pinned(history.current, models)
        self.canary = None
        if history.canary is not None:
            self.canary = (await self._pinned(history.canary.name, models), history.canary)
        _audit.info("index=%s generation=%s in place", self.generation.name, history.current)

    async def _pinned(self, record: str, models: Directory) -> Generation:
        loop = asyncio.get_running_loop()
        opened = await loop.run_in_executor(self._threads, self._open, record)
        await pin(opened, models)
        return opened

    def _open(self, record: str) -> Generation:
        """Return a generation, opened; the last few stay open, so that going back is at once."""
        opened = self._opened.pop(record, None) or Generation.of_generation(
            self.generation.name, self._generations, record, self._searching()
        )
        self._opened[record] = opened
        while len(self._opened) > _KEPT:
            del self._opened[next(iter(self._opened))]
        return opened

    def _searching(self) -> ThreadPoolExecutor:
        return next(iter(self.generation.legs.values())).threads


async def pin(generation: Generation, models: Directory) -> None:
    """Find the served model of every leg; the stages are asked anew where one is not known.

    Raises:
        ArtifactError: no served model has the fingerprint a leg is pinned to.
    """
    try:
        _pin(generation, (await models.cards()).values())
    except ArtifactError:
        models.forget()
        _pin(generation, (await models.cards()).values())


def _pin(generation: Generation, cards: Iterable[ModelCard]) -> None:
    served = list(cards)
    for leg in generation.legs.values():
        leg.pin(generation.name, served)
