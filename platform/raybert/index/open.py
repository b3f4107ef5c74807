"""Opening an index: every file checked against the manifest before it is searched."""

from __future__ import annotations

import io
import mmap
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from raybert.artifacts import Folder, Manifest, Shard, hash_bytes, read_manifest
from raybert.errors import ArtifactError
from raybert.index.documents import Documents, open_documents
from raybert.index.kinds import pick_kind
from raybert.index.metric import pick_metric
from raybert.index.rescoring import Store
from raybert.index.search import Index, ShardSearch
from raybert.vectors import Ranges

ENGINES = "shards"
VECTORS = "vectors"
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
    if verify:
        for shard in manifest.shards:
            _verify(folder, shard)
    details = manifest.details
    kind, metric = pick_kind(details["kind"]), pick_metric(details["metric"])
    engines = [_engine(folder, shard, kind.binary) for shard in _within(manifest, ENGINES)]
    stores = _stores(folder, manifest) or [None] * len(engines)
    searchers: list[ShardSearch] = [
        kind.open(engine, metric, store, details)
        for engine, store in zip(engines, stores, strict=True)
    ]
    documents = [open_documents(folder, shard) for shard in _within(manifest, DOCUMENTS)]
    index = Index(manifest, searchers, Documents(documents))
    if details.get("effort"):
        index.effort = details["effort"]
    return index


def _within(manifest: Manifest, room: str) -> list[Shard]:
    return [shard for shard in manifest.shards if shard.file.startswith(f"{room}/")]


def _stores(folder: Folder, manifest: Manifest) -> list[Store | None]:
    lists = manifest.details.get("ranges")
    ranges = None if lists is None else Ranges.from_lists(lists)
    return [Store(_array(folder, shard), ranges) for shard in _within(manifest, VECTORS)]


def _array(folder: Folder, shard: Shard) -> npt.NDArray[Any]:
    if folder.local is None:
        data = io.BytesIO(folder.read_bytes(shard.file))
        return np.asarray(np.load(data, allow_pickle=False))
    mapped: npt.NDArray[Any] = np.load(folder.local / shard.file, mmap_mode="r", allow_pickle=False)
    return mapped


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


def _engine(folder: Folder, shard: Shard, binary: bool) -> Any:
    """Read a FAISS index: mapped from a local file, from memory where it is remote."""
    read = faiss.read_index_binary if binary else faiss.read_index
    deserialize = faiss.deserialize_index_binary if binary else faiss.deserialize_index
    try:
        if folder.local is not None:
            return read(str(folder.local / shard.file), faiss.IO_FLAG_MMAP_IFC)
        return deserialize(np.frombuffer(folder.read_bytes(shard.file), dtype=np.uint8))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{folder.path(shard.file)}: no FAISS index: {reason}") from None
