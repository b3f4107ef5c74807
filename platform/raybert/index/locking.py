"""A lock that lies in a file: whoever holds it, in whatever process; a killed holder lets go."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raybert.errors import ArtifactError, OverloadedError

_POLL_S = 0.002


@contextmanager
def held(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock of a file.

    Args:
        path: the file; it is made if it is not there.
        wait_s: seconds to wait for another holder.

    Raises:
        OverloadedError: another holder kept it for longer.
        ArtifactError: the file may not be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be locked: {error.strerror}") from error
    try:
        _lock(descriptor, path, wait_s)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise OverloadedError(f"{path}: held by another process") from None
            time.sleep(_POLL_S)
