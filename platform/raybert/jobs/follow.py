"""A job's output, handed on once however often the connection breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raybert.errors import PlatformError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


class Follower:
    """Hands on what a job prints; the Jobs API tells the output from its beginning each time.

    Args:
        write: takes each piece of text.
    """

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write
        self._seen = 0

    async def tail(self, client: JobSubmissionClient, job_id: str) -> None:
        """Read the output to its present end, and hand on what was not seen yet.

        Raises:
            PlatformError: the connection broke.
        """
        import aiohttp

        passed = 0
        try:
            async for text in client.tail_job_logs(job_id):
                fresh = text[max(0, self._seen - passed) :]
                passed += len(text)
                self._seen = max(self._seen, passed)
                if fresh:
                    self._write(fresh)
        except aiohttp.ClientError as error:
            raise PlatformError(f"the connection broke: {error}") from None
