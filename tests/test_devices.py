from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from types import SimpleNamespace

import numba.core.caching
import pytest

from raybert import devices
from raybert.devices import TILES, compiled, tiles_work


def twice(number: int) -> int:
    return 2 * number


def test_what_is_compiled_needs_no_place_to_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    assert compiled()(twice)(21) == 42


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """What Linux is asked, which refuses; it is a mock, as a kernel that refuses is none here."""
    calls: list[tuple[int, ...]] = []

    def refuse(*call: int) -> int:
        calls.append(call)
        return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(syscall=refuse))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    tiles_work.cache_clear()
    yield calls
    tiles_work.cache_clear()


@pytest.mark.parametrize("features", [frozenset(), TILES - {"amx_bf16"}])
def test_for_a_cpu_without_tiles_nothing_is_asked(
    features: frozenset[str], asked: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_features", lambda: features)
    assert not tiles_work()
    assert not asked


def test_tiles_that_linux_refuses_are_not_used(
    asked: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_features", lambda: TILES)
    assert not tiles_work()
    assert asked == [(158, 0x1023, 18)]
