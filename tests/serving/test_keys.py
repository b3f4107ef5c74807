from __future__ import annotations

from pathlib import Path

import pytest

from raybert.errors import SettingsError
from raybert.serving import keys
from raybert.serving.keys import ApiKey, KeyRing, KeySettings, Scope, hash_key, new_key


def listed(*entries: tuple[str, str, str]) -> str:
    lines = ["keys:"]
    for name, key, scope in entries:
        lines.append(f"- {{name: {name}, sha256: {hash_key(key)}, scope: {scope}}}")
    return "\n".join(lines)


def test_a_known_key_is_found_by_its_hash_alone() -> None:
    key = new_key()
    ring = KeyRing(KeySettings(keys=(ApiKey(name="app", sha256=hash_key(key), scope="write"),)))
    found = ring.find(key)
    assert found is not None
    assert found.name == "app"
    assert found.allows is Scope.WRITE
    assert ring.find(key + "x") is None
    assert ring.find("") is None
    assert key not in repr(ring.settings)


def test_new_keys_are_long_and_differ() -> None:
    made = {new_key() for _ in range(50)}
    assert len(made) == 50
    assert min(map(len, made)) >= 43


def test_keys_turn_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_RELOAD_S", 0.0)
    file = tmp_path / "keys.yaml"
    file.write_text(listed(("old", "old-key", "read")))
    ring = KeyRing(KeySettings(keys_file=str(file)))
    assert ring.find("old-key") is not None
    file.write_text(listed(("new", "new-key-of-another-length", "admin")))
    assert ring.find("old-key") is None
    assert ring.find("new-key-of-another-length") is not None


def test_a_damaged_file_leaves_the_keys_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_RELOAD_S", 0.0)
    file = tmp_path / "keys.yaml"
    file.write_text(listed(("old", "old-key", "read")))
    ring = KeyRing(KeySettings(keys_file=str(file)))
    for damaged in ("keys: [{name: x}]", ": : :", ""):
        file.write_text(damaged)
        assert ring.find("old-key") is not None
    file.unlink()
    assert ring.find("old-key") is not None


def test_an_empty_file_locks(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("keys: []")
    assert KeyRing(KeySettings(keys_file=str(file))).locked
    assert not KeyRing(KeySettings()).locked


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("keys: [{name: x, sha256: abc}]", "keys.0.sha256"),
        ("keys: [{name: x, sha256: '%s', scope: root}]" % ("0" * 64), "keys.0.scope"),
    ],
)
def test_a_bad_file_is_refused_at_the_start(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "keys.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        KeyRing(KeySettings(keys_file=str(file)))
