"""How many tokens a key may spend: a bucket that fills by the second, kept per gateway replica.

What a request costs is known once its texts are tokenized, so a request is admitted while the
bucket is not empty, and what it took is drawn afterwards; the bucket may go below zero once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.keys import ApiKey


@dataclass(slots=True)
class Bucket:
    """Tokens one key may still spend.

    Args:
        per_minute: tokens that flow in each minute; as many fit in.
        clock: seconds, monotonic.
    """

    per_minute: int
    clock: Callable[[], float] = time.monotonic
    _left: float = field(init=False)
    _seen: float = field(init=False)

    def __post_init__(self) -> None:
        self._left = float(self.per_minute)
        self._seen = self.clock()

    @property
    def left(self) -> float:
        """Tokens that may be spent now; below zero where the last request took more."""
        now = self.clock()
        flowed = (now - self._seen) * self.per_minute / 60
        self._left, self._seen = min(float(self.per_minute), self._left + flowed), now
        return self._left

    def seconds_until_open(self) -> float:
        """Return the seconds until a request is admitted; 0 if it is now."""
        missing = 1 - self.left
        return max(0.0, missing * 60 / self.per_minute)

    def spend(self, tokens: int) -> None:
        """Draw what a request took."""
        self._left = self.left - tokens


class Rates:
    """The buckets of all keys that have a rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def admit(self, key: ApiKey) -> Bucket | None:
        """Return the key's bucket, None where it has no rate.

        Raises:
            RequestError: `OVERLOADED`, with the seconds until it is open again.
        """
        if key.tokens_per_minute is None:
            return None
        bucket = self._buckets.get(key.sha256)
        if bucket is None or bucket.per_minute != key.tokens_per_minute:
            bucket = Bucket(key.tokens_per_minute, self._clock)
            self._buckets[key.sha256] = bucket
        wait = bucket.seconds_until_open()
        if wait > 0:
            message = (
                f"key {key.name!r} has spent its limit tokens_per_minute of {bucket.per_minute}"
            )
            raise RequestError(FaultKind.OVERLOADED, message, retry_after_s=wait)
        return bucket
