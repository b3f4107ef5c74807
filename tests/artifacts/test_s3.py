"""Artifacts on an S3-compatible store: a real server of moto's, over HTTP."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import fsspec
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from raybert.artifacts import (
    Folder,
    Manifest,
    finished,
    read_manifest,
    read_table,
    write_manifest,
    write_table,
)
from raybert.errors import ArtifactError

SECRET = "a-secret-that-nobody-may-read"


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of a bucket; the way to it stands in the environment, as for any S3 client."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
        yield "s3://bucket"
    fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


def test_an_artifact_is_there_when_its_manifest_is(store: str) -> None:
    folder = Folder(f"{store}/out")
    assert finished(folder) is None
    table = pa.table({"id": ["a", "b"], "vector": pa.array([[1.0, 2.0], [3.0, 4.0]])})
    shard = write_table(folder, "shards/00000.parquet", table)
    assert finished(folder) is None
    with pytest.raises(ArtifactError, match=r"s3://bucket/out: unfinished \(no manifest\.json\)"):
        read_manifest(f"{store}/out")
    write_manifest(folder, Manifest(kind="embeddings", shards=(shard,)))
    found = read_manifest(f"{store}/out", "embeddings")
    assert read_table(Folder(f"{store}/out"), found.shards[0]).equals(table)
    assert folder.names() == ["manifest.json", "shards"]
    assert folder.local is None


def test_what_another_process_wrote_is_seen_at_once(store: str) -> None:
    """A resumed job looks twice at one folder; what it saw first must not be remembered."""
    mine = Folder(f"{store}/shared")
    assert mine.names("receipts") == []
    assert not mine.exists("manifest.json")
    other = fsspec.filesystem("s3", skip_instance_cache=True)
    other.pipe_file("bucket/shared/receipts/00001.json", b"{}")
    other.pipe_file("bucket/shared/manifest.json", b"{}")
    assert mine.names("receipts") == ["00001.json"]
    assert mine.exists("manifest.json")
    other.rm("bucket/shared/manifest.json")
    assert not mine.exists("manifest.json")


def test_a_file_of_many_parts_is_there_whole_or_not_at_all(store: str) -> None:
    folder, size = Folder(f"{store}/large"), 60 << 20
    seen, ended = set(), threading.Event()

    def look() -> None:
        watching = Folder(f"{store}/large")
        while not ended.is_set():
            if watching.exists("weights"):
                seen.add(watching._files.size("bucket/large/weights"))

    thread = threading.Thread(target=look)
    thread.start()
    folder.write_bytes("weights", bytes(size))
    ended.set()
    thread.join()
    assert seen <= {size}
    assert len(folder.read_bytes("weights")) == size
    folder.remove()
    assert folder.names() == []


def test_a_bucket_that_is_not_there_is_one_line(store: str) -> None:
    with pytest.raises(ArtifactError, match=r"s3://nowhere/x/a: cannot be written: "):
        Folder("s3://nowhere/x").write_bytes("a", b"1")
    with pytest.raises(ArtifactError, match="no such artifact"):
        read_manifest("s3://nowhere/x")


def test_credentials_are_neither_taken_in_an_address_nor_told(
    store: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArtifactError, match="credentials in an address") as told:
        Folder(f"s3://somebody:{SECRET}@bucket/out")
    assert SECRET not in str(told.value)
    with caplog.at_level(logging.INFO):
        folder = Folder(f"{store}/quiet")
        folder.write_bytes("a", b"1")
        manifest = write_manifest(folder, Manifest(kind="report", settings={"out": folder.uri}))
        with pytest.raises(ArtifactError):
            folder.read_bytes("b")
    printed = "".join(capfd.readouterr()) + caplog.text + manifest.model_dump_json() + repr(folder)
    assert SECRET not in printed
