"""A folder that may be local or remote, where a file is there whole or not at all."""

from __future__ import annotations

import os
import posixpath
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import fsspec

from raybert.errors import ArtifactError


class Folder:
    """A folder opened by its address: a local path or anything `fsspec` opens (`s3://…`).

    Writing is atomic. A local file is written under another name, flushed to disk and renamed; an
    object store shows an object only when its upload has ended.

    Args:
        uri: path or address of the folder; it need not exist yet.

    Raises:
        ArtifactError: no file system is known for the address, or it names a password.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        _refuse_password(self.uri)
        try:
            # What other processes write must be seen: nothing that was listed is remembered.
            self._files, root = fsspec.core.url_to_fs(self.uri, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ArtifactError(f"{self.uri}: {' '.join(str(error).split())}") from None
        self._root = root.rstrip("/") or "/"

    def __str__(self) -> str:
        return self.uri

    @property
    def local(self) -> Path | None:
        """The folder as a local path, or None where it is remote."""
        protocols = self._files.protocol
        return Path(self._root) if "file" in protocols or protocols == "file" else None

    @property
    def absolute(self) -> str:
        """The address that means this folder on any worker, whatever its working directory."""
        return self.uri if self.local is None else str(self.local)

    def path(self, name: str) -> str:
        """Return the address of a file, for people and error messages."""
        return f"{self.uri.rstrip('/')}/{name}"

    def exists(self, name: str = "") -> bool:
        """Say whether a file (or the folder itself) is there."""
        return bool(self._files.exists(self._at(name)))

    def names(self, name: str = "") -> list[str]:
        """Return the sorted base names in a folder; none if there is no such folder."""
        try:
            listed = self._files.ls(self._at(name), detail=False, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(posixpath.basename(str(path).rstrip("/")) for path in listed)

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading.

        Raises:
            ArtifactError: it is not there.
        """
        try:
            return self._files.open(self._at(name), "rb")  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise ArtifactError(f"{self.path(name)}: no such file") from None

    def read_bytes(self, name: str) -> bytes:
        """Return a file's bytes."""
        with self.open(name) as file:
            return file.read()

    def write_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Write a file whole or not at all.

        Raises:
            ArtifactError: the disk is full, or the folder may not be written to.
        """
        with self.writing(name) as file:
            file.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Write a file piece by piece, whole or not at all: it is there when the block has ended.

        Raises:
            ArtifactError: the disk is full, or the folder may not be written to.
        """
        try:
            local = self.local
            with self._uploaded(name) if local is None else _renamed(local / name) as file:
                yield file
        except OSError as error:
            reason = error.strerror or str(error)
            raise ArtifactError(f"{self.path(name)}: cannot be written: {reason}") from error

    def remove(self, name: str = "") -> None:
        """Remove a file or a folder with all it holds; what is not there is no fault."""
        if self.exists(name):
            self._files.rm(self._at(name), recursive=True)

    @contextmanager
    def _uploaded(self, name: str) -> Iterator[IO[bytes]]:
        with tempfile.NamedTemporaryFile() as file:
            yield file
            file.flush()
            self._files.put_file(file.name, self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def _refuse_password(uri: str) -> None:
    """Refuse an address that names a password: it would stand in manifests, runs and logs."""
    scheme, sign, rest = uri.partition("://")
    user, at, host = rest.partition("/")[0].rpartition("@")
    if sign and at and ":" in user:
        raise ArtifactError(
            f"{scheme}://…@{host}: credentials in an address are not taken; "
            "give them as the store's client reads them (AWS_ACCESS_KEY_ID, a profile…)"
        )


@contextmanager
def _renamed(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
