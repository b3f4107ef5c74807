from __future__ import annotations

import numba.core.caching
import pytest

from raybert import devices
from raybert.devices import TILES, compiled, tiles_work


def twice(number: int) -> int:
    return 2 * number


def test_what_is_compiled_needs_no_place_to_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    assert compiled()(twice)(21) == 42


@pytest.mark.parametrize("features", [frozenset(), TILES - {"amx_bf16"}])
def test_a_cpu_without_tiles_is_not_asked_for_them(
    features: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles_work.cache_clear()
    monkeypatch.setattr(devices, "cpu_features", lambda: features)
    assert not tiles_work()
    tiles_work.cache_clear()
