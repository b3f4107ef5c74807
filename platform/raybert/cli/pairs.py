"""Flags of the form `--env KEY=VALUE`, repeated."""

from __future__ import annotations

from collections.abc import Sequence

from raybert.errors import SettingsError


def pairs(flag: str, items: Sequence[str]) -> dict[str, str]:
    """Return keys and values.

    Raises:
        SettingsError: an item has no key or no equals sign.
    """
    found: dict[str, str] = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise SettingsError(f"{flag} {item!r}: KEY=VALUE is expected")
        found[key] = value
    return found
