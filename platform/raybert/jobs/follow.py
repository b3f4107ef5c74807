"""A job followed to its end: its output, handed on once however often the connection breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raybert.errors import PlatformError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

WAITING = "PENDING"
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
POLL_S = 0.3
"""Seconds between two looks at a job's status: Ray's own tail notices an end 3 seconds late."""


class Follower:
    """Hands on what a job prints; the Jobs API tells the output from its beginning each time.

    Args:
        client: Ray's client.
        status: asks for the job's status: PENDING, RUNNING, or one of `ENDED`.
        write: takes each piece of text.
    """

    def __init__(
        self,
        client: JobSubmissionClient,
        status: Callable[[str], str],
        write: Callable[[str], Any],
    ) -> None:
        self._client = client
        self._ask = status
        self._write = write
        self._seen = 0
        self.heard = time.monotonic()
        """When the cluster last answered, by the monotonic clock."""

    async def follow(self, job_id: str) -> None:
        """Hand on the output as it comes, until the job has ended and all of it was told.

        Raises:
            PlatformError: the connection broke.
        """
        while await self._status(job_id) == WAITING:
            await asyncio.sleep(POLL_S)
        tail = asyncio.create_task(self._tail(job_id))
        try:
            while await self._status(job_id) not in ENDED:
                await asyncio.wait({tail}, timeout=POLL_S)
                if tail.done():
                    tail.result()
                    await asyncio.sleep(POLL_S)
        finally:
            tail.cancel()
            await asyncio.wait({tail})
        self._hand_on(await asyncio.to_thread(self._client.get_job_logs, job_id), 0)

    async def _status(self, job_id: str) -> str:
        status = await asyncio.to_thread(self._ask, job_id)
        self.heard = time.monotonic()
        return status

    async def _tail(self, job_id: str) -> None:
        import aiohttp

        passed = 0
        try:
            async for text in self._client.tail_job_logs(job_id):
                passed = self._hand_on(text, passed)
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            raise PlatformError(f"the connection broke: {error}") from None

    def _hand_on(self, text: str, start: int) -> int:
        """Write what of the output's part from `start` on was not written yet; return its end."""
        end = start + len(text)
        if fresh := text[max(0, self._seen - start) :]:
            self._write(fresh)
        self._seen = max(self._seen, end)
        return end
