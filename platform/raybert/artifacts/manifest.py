"""The manifest: written last, by rename. No manifest, no artifact."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from raybert.artifacts.fingerprints import fingerprint
from raybert.artifacts.folder import Folder
from raybert.errors import ArtifactError
from raybert.settings import Settings

MANIFEST = "manifest.json"
VERSION = 1
Kind = Literal["embeddings", "index", "pairs", "model", "run", "report", "clusters", "corpus"]


class Input(Settings):
    """What an artifact was made from."""

    kind: str
    """Kind of the input: corpus, model, embeddings, index, run, pairs, …"""
    uri: str
    """Where it lay."""
    fingerprint: str
    """Its content hash at that time."""


class Shard(Settings):
    """One file of an artifact."""

    file: str
    """Path inside the artifact."""
    rows: int
    """Rows it holds."""
    bytes: int
    """Size of the file."""
    checksum: str
    """`xxh3:` and the hash of its bytes."""

    @field_validator("file")
    @classmethod
    def _check_inside(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{file!r} does not lie inside the artifact")
        return file


class Manifest(Settings):
    """Everything a reader must know of an artifact before it opens a shard."""

    kind: Kind
    """What the artifact is."""
    version: int = VERSION
    """Version of this layout."""
    fingerprint: str = ""
    """Content hash: of the kind, the settings, the inputs' hashes and the shards' checksums."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The settings of the job that made it."""
    rows: int = 0
    """Rows over all shards."""
    inputs: tuple[Input, ...] = ()
    """What it was made from."""
    shards: tuple[Shard, ...] = ()
    """Its files, in row order."""
    details: dict[str, Any] = Field(default_factory=dict)
    """What its kind adds: dimension, measured recall, quantization ranges, counts."""
    created: str = ""
    """When, in UTC, ending in Z."""
    raybert: str = ""
    """Version of the library."""
    mlflow_run: str | None = None
    """The MLflow run that has its settings, metrics and plots."""

    def input(self, kind: str) -> Input:
        """Return the first input of a kind.

        Raises:
            ArtifactError: there is none.
        """
        for item in self.inputs:
            if item.kind == kind:
                return item
        raise ArtifactError(f"the {self.kind} artifact names no input of kind {kind!r}")


def write_manifest(folder: Folder, manifest: Manifest) -> Manifest:
    """Finish an artifact: stamp the manifest and write it, last of all its files.

    Returns:
        The manifest as written, with fingerprint, time and library version.
    """
    from raybert import __version__

    content = {
        "kind": manifest.kind,
        "version": manifest.version,
        "settings": manifest.settings,
        "inputs": [item.fingerprint for item in manifest.inputs],
        "shards": [(shard.rows, shard.checksum) for shard in manifest.shards],
    }
    stamped = manifest.model_copy(
        update={
            "fingerprint": manifest.fingerprint or fingerprint(content),
            "rows": manifest.rows or sum(shard.rows for shard in manifest.shards),
            "created": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}Z",
            "raybert": __version__,
        }
    )
    folder.write_bytes(MANIFEST, stamped.model_dump_json(indent=2).encode())
    return stamped


def finished(folder: Folder) -> Manifest | None:
    """Return the manifest of a finished artifact, or None where the work has not ended."""
    return read_manifest(folder) if folder.exists(MANIFEST) else None


def read_manifest(where: Folder | str | Path, kind: str | None = None) -> Manifest:
    """Read the manifest of an artifact.

    Args:
        where: the artifact's folder.
        kind: the kind that is expected; any if None.

    Raises:
        ArtifactError: nothing there, unfinished, unreadable, or of another kind.
    """
    folder = where if isinstance(where, Folder) else Folder(where)
    if not folder.exists(MANIFEST):
        state = "unfinished (no manifest.json)" if folder.exists() else "no such artifact"
        raise ArtifactError(f"{folder}: {state}; run the job that writes it to its end")
    try:
        manifest = Manifest.model_validate_json(folder.read_bytes(MANIFEST))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArtifactError(f"{folder.path(MANIFEST)}: {place}: {first['msg']}") from None
    if manifest.version > VERSION:
        raise ArtifactError(
            f"{folder.path(MANIFEST)}: version {manifest.version}; "
            f"this raybert reads versions up to {VERSION}"
        )
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{folder}: holds {manifest.kind}; {kind} is expected")
    return manifest
