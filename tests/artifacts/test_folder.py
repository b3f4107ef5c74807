import errno
import os
from pathlib import Path

import pytest

from raybert.artifacts import Folder
from raybert.errors import ArtifactError


def test_writes_whole_files_and_lists_them(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "new" / "artifact")
    assert not folder.exists()
    assert folder.names() == []
    folder.write_bytes("shards/00000.parquet", b"abc")
    assert folder.read_bytes("shards/00000.parquet") == b"abc"
    assert folder.names("shards") == ["00000.parquet"]
    folder.remove("shards")
    folder.remove("shards")
    assert folder.names() == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    folder.write_bytes("a", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"/a: cannot be written: No space left on device"):
        folder.write_bytes("a", b"new")
    assert folder.read_bytes("a") == b"old"
    assert folder.names() == ["a"]


def test_a_real_full_disk_is_told_in_one_line(small_disk: Path) -> None:
    folder = Folder(small_disk)
    folder.write_bytes("small", b"x" * 1000)
    with pytest.raises(ArtifactError, match="/big: cannot be written: No space left on device"):
        folder.write_bytes("big", b"x" * 100_000)
    assert folder.names() == ["small"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.json: no such file"):
        Folder(tmp_path).read_bytes("gone.json")


def test_an_unknown_address_is_refused() -> None:
    with pytest.raises(ArtifactError, match="nosuch://bucket"):
        Folder("nosuch://bucket/a")


def test_a_remote_folder_behaves_the_same() -> None:
    folder = Folder("memory://artifacts/one")
    assert folder.local is None
    folder.write_bytes("shards/a", b"1")
    assert folder.exists("shards/a")
    assert folder.names("shards") == ["a"]
    assert folder.absolute == "memory://artifacts/one"
    folder.remove()
    assert not folder.exists()
