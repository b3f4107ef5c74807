"""Opening an index: every file checked against the manifest before it is searched."""

from __future__ import annotations

import mmap
from typing import Any

import faiss
import numpy as np

from raybert.artifacts import Folder, Manifest, Shard, hash_bytes, read_manifest
from raybert.errors import ArtifactError
from raybert.index.documents import Documents, open_documents
from raybert.index.kinds import pick_kind
from raybert.index.metric import pick_metric
from raybert.index.search import Index, ShardSearch

ENGINES = "shards"
DOCUMENTS = "documents"


def open_index(uri: str, *, verify: bool = True) -> Index:
    """Open the index at `uri`, memory-mapped where it is local.

    Args:
        uri: its folder.
        verify: read every file once and compare it with the manifest's checksum.

    Raises:
        ArtifactError: not there, unfinished, of another kind, or a file is damaged (it is named).
    """
    folder = Folder(uri)
    return open_shards(folder, read_manifest(folder, kind="index"), verify=verify)


def open_shards(folder: Folder, manifest: Manifest, *, verify: bool) -> Index:
    """Open the files that a manifest names, whether or not it is written yet."""
    engines = [shard for shard in manifest.shards if shard.file.startswith(f"{ENGINES}/")]
    stored = [shard for shard in manifest.shards if shard.file.startswith(f"{DOCUMENTS}/")]
    if verify:
        for shard in manifest.shards:
            _verify(folder, shard)
    kind, metric = pick_kind(manifest.details["kind"]), pick_metric(manifest.details["metric"])
    searchers: list[ShardSearch] = [
        kind.open(_engine(folder, shard), metric, manifest.details) for shard in engines
    ]
    return Index(manifest, searchers, Documents([open_documents(folder, s) for s in stored]))


def _verify(folder: Folder, shard: Shard) -> None:
    size, checksum = _measured(folder, shard)
    if (size, checksum) != (shard.bytes, shard.checksum):
        raise ArtifactError(
            f"{folder.path(shard.file)}: damaged: {size} bytes with {checksum}; "
            f"the manifest says {shard.bytes} bytes with {shard.checksum}"
        )


def _measured(folder: Folder, shard: Shard) -> tuple[int, str]:
    if folder.local is None:
        data = folder.read_bytes(shard.file)
        return len(data), hash_bytes(data)
    try:
        with (folder.local / shard.file).open("rb") as file:
            if not file.seek(0, 2):
                return 0, hash_bytes(b"")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                view = memoryview(mapped)
                measured = len(view), hash_bytes(view)
                view.release()
                return measured
    except FileNotFoundError:
        raise ArtifactError(f"{folder.path(shard.file)}: no such file") from None


def _engine(folder: Folder, shard: Shard) -> Any:
    """Read a FAISS index: mapped from a local file, from memory where it is remote."""
    try:
        if folder.local is not None:
            return faiss.read_index(str(folder.local / shard.file), faiss.IO_FLAG_MMAP_IFC)
        data = np.frombuffer(folder.read_bytes(shard.file), dtype=np.uint8)
        return faiss.deserialize_index(data)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{folder.path(shard.file)}: no FAISS index: {reason}") from None
