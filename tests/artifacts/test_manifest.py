from pathlib import Path

import pytest

from raybert.artifacts import (
    Folder,
    Input,
    Manifest,
    Shard,
    finished,
    read_manifest,
    write_manifest,
)
from raybert.errors import ArtifactError

SHARD = Shard(file="shards/00000.parquet", rows=3, bytes=10, checksum="xxh3:0")


def manifest(**changes: object) -> Manifest:
    corpus = Input(kind="corpus", uri="a.txt", fingerprint="f1")
    fields = {"kind": "embeddings", "shards": (SHARD,), "inputs": (corpus,), "settings": {"a": 1}}
    return Manifest.model_validate(fields | changes)


def test_a_finished_artifact_reads_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert finished(folder) is None
    written = write_manifest(folder, manifest())
    assert finished(folder) == written == read_manifest(tmp_path, "embeddings")
    assert written.rows == 3
    assert written.created.endswith("Z")
    assert written.raybert == "0.1.0"
    assert written.input("corpus").fingerprint == "f1"


def test_the_fingerprint_follows_content_and_not_time(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    first = write_manifest(folder, manifest()).fingerprint
    assert write_manifest(folder, manifest(mlflow_run="other")).fingerprint == first
    other = SHARD.model_copy(update={"checksum": "xxh3:1"})
    assert write_manifest(folder, manifest(shards=(other,))).fingerprint != first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such artifact"),
        ("", "unfinished"),
        ("{", r"manifest\.json: the file: Invalid JSON"),
        ('{"kind": "cake"}', r"manifest\.json: kind: Input should be 'embeddings'"),
        ('{"kind": "run", "version": 99}', r"version 99; this raybert reads versions up to 1"),
        ('{"kind": "run"}', "holds run; embeddings is expected"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    tmp_path: Path, content: str | None, message: str
) -> None:
    folder = tmp_path / "artifact"
    if content is not None:
        folder.mkdir()
    if content:
        (folder / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_manifest(folder, "embeddings")
    assert "\n" not in str(caught.value)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ArtifactError, match="names no input of kind 'model'"):
        manifest().input("model")


@pytest.mark.parametrize("file", ["../secret.parquet", "shards/../../secret.parquet", "/secret"])
def test_a_shard_lies_inside_its_artifact(tmp_path: Path, file: str) -> None:
    folder = Folder(tmp_path)
    write_manifest(folder, manifest())
    text = folder.read_bytes("manifest.json").replace(SHARD.file.encode(), file.encode())
    folder.write_bytes("manifest.json", text)
    with pytest.raises(ArtifactError, match=r"shards\.0\.file: .* does not lie inside"):
        read_manifest(tmp_path)
