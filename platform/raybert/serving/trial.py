"""Trials of a generation on real queries: what it found beside the current one, told to MLflow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from raybert.errors import RaybertError
from raybert.serving.generation import Generation
from raybert.serving.messages import SearchAnswer, SearchCall
from raybert.settings import JobSettings
from raybert.tracking import Run, start_run

TELL_EVERY = 20
"""Comparisons between two reports."""
_ASKING = 8
_log = logging.getLogger(__name__)


class TrialSettings(JobSettings):
    """A trial, as its MLflow run knows it."""

    index: str
    """Served name of the index."""
    current: str
    """The generation in place."""
    next: str
    """The generation that is tried."""


@dataclass(slots=True)
class Trial:
    """Comparisons of two generations, added up.

    Args:
        settings: which index and generations.
    """

    settings: TrialSettings
    queries: int = 0
    overlap: float = 0.0
    current_ms: float = 0.0
    next_ms: float = 0.0
    _run: Run | None = None
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "trial"))

    async def add(self, current: SearchAnswer, other: SearchAnswer) -> None:
        """Add one query's answers by both; every so often MLflow is told."""
        found = [hit.id for hit in current.hits]
        both = set(found).intersection(hit.id for hit in other.hits)
        self.queries += 1
        self.overlap += len(both) / len(found) if found else 1.0
        self.current_ms += current.stages_ms["total"]
        self.next_ms += other.stages_ms["total"]
        if self.queries % TELL_EVERY == 0:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self._tell, self.means(), self.queries)

    def means(self) -> dict[str, float]:
        """Return overlap and milliseconds, a query on average."""
        count = max(self.queries, 1)
        return {
            "overlap": self.overlap / count,
            "current_ms": self.current_ms / count,
            "next_ms": self.next_ms / count,
        }

    def _tell(self, means: dict[str, float], queries: int) -> None:
        try:
            if self._run is None:
                name = f"trial {self.settings.index} {self.settings.next}"
                self._run = start_run(self.settings, name=name, kind="trial")
            self._run.metrics(means, step=queries)
        except RaybertError as error:
            _log.warning("trial of %s: MLflow is not told: %s", self.settings.index, error)


class Trials:
    """All trials of a searcher: each query is asked again behind the answer's back.

    Args:
        ask: answers a query by a generation.
    """

    def __init__(self, ask: Callable[[Generation, SearchCall], Awaitable[SearchAnswer]]) -> None:
        self._ask = ask
        self._trials: dict[tuple[str, str, str], Trial] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def compare(
        self, current: Generation, other: Generation, call: SearchCall, answer: SearchAnswer
    ) -> None:
        """Ask the generation that is tried what the current one has answered; a few at a time."""
        if len(self._asking) >= _ASKING:
            return
        key = (call.index, current.record, other.record)
        if key not in self._trials:
            settings = TrialSettings(out="-", index=key[0], current=key[1], next=key[2])
            self._trials[key] = Trial(settings)
        task = asyncio.create_task(self._compared(self._trials[key], other, call, answer))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _compared(
        self, trial: Trial, other: Generation, call: SearchCall, answer: SearchAnswer
    ) -> None:
        try:
            await trial.add(answer, await self._ask(other, call))
        except (RaybertError, TimeoutError) as error:
            _log.warning("trial of %s %s: %s", call.index, other.record, error)
