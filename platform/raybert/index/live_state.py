"""The state of a live index: one small file, replaced whole, that says which files count."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from raybert.artifacts import Folder, Input, Shard, hash_bytes
from raybert.errors import ArtifactError
from raybert.settings import Settings

STATE = "live.json"
VERSION = 1


class LiveState(Settings):
    """What counts: everything else in the folder is left over and may be removed."""

    version: int = VERSION
    """Version of this layout."""
    identity: str
    """Drawn when the index was made: it is the same for as long as the index lives."""
    kind: str
    """Kind of the sealed segments' indexes."""
    metric: str
    """What hits are ranked by."""
    dimension: int
    """Width of the vectors."""
    model: Input
    """The model that makes the vectors; those of another are refused."""
    encoding: dict[str, Any] = Field(default_factory=dict)
    """Settings the texts are encoded by."""
    number: int = 1
    """Grows whenever this file is written; names new segments and logs."""
    sequence: int = 0
    """The segments hold every change up to this one."""
    columns: str = ""
    """Payload columns and their types up to `sequence`, an Arrow schema in base64."""
    segments: tuple[str, ...] = ()
    """Sealed segments, oldest first."""
    tombstones: Shard | None = None
    """Ids that are dead in a segment (columns `segment`, `id`)."""
    logs: tuple[str, ...] = ()
    """Logs with the changes since, oldest first; the last one is written to."""


def read_state(folder: Folder) -> LiveState:
    """Read the state of the live index in a folder.

    Raises:
        ArtifactError: no live index there, its state is damaged, or of a later raybert.
    """
    if not folder.exists(STATE):
        raise ArtifactError(f"{folder}: no live index (there is no {STATE})")
    where = folder.path(STATE)
    try:
        content = json.loads(folder.read_bytes(STATE))
        checksum = content.pop("checksum")
        state = LiveState.model_validate(content)
    except (ValueError, KeyError, AttributeError, ValidationError):
        raise ArtifactError(f"{where}: damaged: not the state of a live index") from None
    if checksum != hash_bytes(_plain(state)):
        raise ArtifactError(f"{where}: damaged: its checksum is not that of its content")
    if state.version > VERSION:
        raise ArtifactError(
            f"{where}: version {state.version}; this raybert reads versions up to {VERSION}"
        )
    return state


def write_state(folder: Folder, state: LiveState) -> None:
    """Replace the state, and flush the folder so that the change of names lasts."""
    content = {**state.model_dump(mode="json"), "checksum": hash_bytes(_plain(state))}
    folder.write_bytes(STATE, json.dumps(content, indent=2).encode())
    assert folder.local is not None, "a live index is local"
    flush_folder(folder.local)


def flush_folder(path: Path) -> None:
    """Flush a folder's list of names to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(state: LiveState) -> bytes:
    return json.dumps(state.model_dump(mode="json"), sort_keys=True).encode()
