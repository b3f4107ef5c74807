"""API keys: hashed at rest, scoped, compared in constant time, changed without a restart.

Keys are long and random (`new_key`), so one SHA-256 is enough at rest: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from raybert.errors import SettingsError
from raybert.settings import Settings, read_yaml

_RELOAD_S = 1.0


class Scope(IntEnum):
    """What a key allows; each scope allows what is below it."""

    READ = 1
    WRITE = 2
    ADMIN = 3


class ApiKey(Settings):
    """One key: its name for the log, the SHA-256 of the key, what it allows."""

    name: str
    """Who uses the key; appears in the audit log instead of the key."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Hex SHA-256 of the key (`raybert.serving.hash_key`)."""
    scope: Literal["read", "write", "admin"] = "read"
    """`read` embeds, reranks and searches; `write` also changes indexes; `admin` everything."""

    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Tokens the key may spend a minute, at each gateway replica; None is without limit."""

    @property
    def allows(self) -> Scope:
        """The scope as a rank."""
        return Scope[self.scope.upper()]


class KeySettings(Settings):
    """Which keys open the server."""

    keys: tuple[ApiKey, ...] = ()
    """Keys known at the start."""
    keys_file: str | None = None
    """YAML file `keys: [{name, sha256, scope}]`, read again when it changes."""
    allow_open: bool = False
    """Without any key, answer callers from other machines too; else only loopback."""


class KeyRing:
    """The keys in force.

    Raises:
        SettingsError: the keys file cannot be read at the start.
    """

    def __init__(self, settings: KeySettings) -> None:
        self.settings = settings
        self._from_file: tuple[ApiKey, ...] = ()
        self._stamp: tuple[int, int] | None = None
        self._looked = 0.0
        self._reload()

    @property
    def locked(self) -> bool:
        """Whether callers need a key; a keys file locks even while it lists none."""
        return bool(self.settings.keys) or self.settings.keys_file is not None

    def find(self, presented: str) -> ApiKey | None:
        """Return the key whose hash `presented` has; every key is compared, in constant time."""
        if time.monotonic() - self._looked > _RELOAD_S:
            self._reload_or_keep()
        digest = hash_key(presented)
        found = None
        for key in (*self.settings.keys, *self._from_file):
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def _reload_or_keep(self) -> None:
        """Read a changed file; while it is damaged the keys read before stay in force."""
        try:
            self._reload()
        except SettingsError:
            self._looked = time.monotonic()

    def _reload(self) -> None:
        self._looked = time.monotonic()
        if self.settings.keys_file is None:
            return
        path = Path(self.settings.keys_file)
        try:
            about = path.stat()
        except OSError as error:
            raise SettingsError(f"keys file {str(path)!r}: {error.strerror}") from None
        stamp = (about.st_mtime_ns, about.st_size)
        if stamp == self._stamp:
            return
        self._from_file = _read_keys(path)
        self._stamp = stamp


def hash_key(key: str) -> str:
    """Return the hex SHA-256 under which a key is kept."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def new_key() -> str:
    """Return a new random key of 256 bits."""
    return f"rb-{secrets.token_urlsafe(32)}"


def _read_keys(path: Path) -> tuple[ApiKey, ...]:
    try:
        keys: Sequence[ApiKey] = TypeAdapter(list[ApiKey]).validate_python(
            read_yaml(path).get("keys", [])
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"keys file {str(path)!r}: keys.{where}: {first['msg']}") from None
    return tuple(keys)
