"""Opening an index: every file checked against the manifest before it is searched."""

from __future__ import annotations

import io
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raybert.artifacts import Folder, Manifest, Shard, hash_bytes, read_manifest
from raybert.errors import ArtifactError
from raybert.index.bm25 import open_words
from raybert.index.documents import Documents, open_documents
from raybert.index.kinds import pick_kind
from raybert.index.metric import pick_metric
from raybert.index.queries import DenseQueries, QueryReader, SparseQueries
from raybert.index.rescoring import Store
from raybert.index.search import Index, ShardSearch
from raybert.vectors import Ranges

ENGINES = "shards"
VECTORS = "vectors"
DOCUMENTS = "documents"
VOCABULARY = "vocabulary"


def open_documents_of(uri: str) -> Index:
    """Open what an index says of itself and its documents, all but what searches.

    Raises:
        ArtifactError: as `open_index`.
    """
    folder = Folder(uri)
    manifest = read_manifest(folder, kind="index")
    kept = (*_within(manifest, DOCUMENTS), *_within(manifest, VOCABULARY))
    return open_shards(folder, manifest.model_copy(update={"shards": kept}), verify=True)


def open_index(uri: str, *, verify: bool = True, only: Sequence[int] | None = None) -> Index:
    """Open the index at `uri`, memory-mapped where it is local.

    Args:
        uri: its folder.
        verify: read every file once and compare it with the manifest's checksum.
        only: numbers of the shards to open; all if None.

    Raises:
        ArtifactError: not there, unfinished, of another kind, or a file is damaged (it is named).
    """
    folder = Folder(uri)
    return open_shards(folder, read_manifest(folder, kind="index"), verify=verify, only=only)


def open_shards(
    folder: Folder, manifest: Manifest, *, verify: bool, only: Sequence[int] | None = None
) -> Index:
    """Open the files that a manifest names, whether or not it is written yet."""
    manifest = manifest if only is None else _cut(manifest, only)
    if verify:
        for shard in manifest.shards:
            _verify(folder, shard)
    details = manifest.details
    kind, metric = pick_kind(details["kind"]), pick_metric(details["metric"])
    engines = [kind.format.open(folder, shard) for shard in _within(manifest, ENGINES)]
    stores = _stores(folder, manifest) or [None] * len(engines)
    searchers: list[ShardSearch] = [
        kind.open(engine, metric, store, details)
        for engine, store in zip(engines, stores, strict=True)
    ]
    documents = [open_documents(folder, shard) for shard in _within(manifest, DOCUMENTS)]
    index = Index(manifest, searchers, Documents(documents), _reader(folder, manifest))
    if engines and details.get("effort"):
        index.effort = details["effort"]
    return index


def _cut(manifest: Manifest, only: Sequence[int]) -> Manifest:
    """Return the manifest with the files of some shards, and those that belong to all."""
    rooms = [_within(manifest, room) for room in (ENGINES, VECTORS, DOCUMENTS)]
    kept = [files[at] for files in rooms if files for at in only]
    return manifest.model_copy(update={"shards": (*kept, *_within(manifest, VOCABULARY))})


def _reader(folder: Folder, manifest: Manifest) -> QueryReader:
    """Return what reads queries for this kind of index."""
    details = manifest.details
    reads, metric = pick_kind(details["kind"]).reads, pick_metric(details["metric"])
    if reads == "text":
        (shard,) = _within(manifest, VOCABULARY)
        return open_words(folder.read_bytes(shard.file), details["words"], metric)
    model = manifest.input("model").uri
    if reads == "sparse":
        return SparseQueries(details["dimension"], metric, model)
    normalized = bool(details["encoding"].get("normalize"))
    return DenseQueries(details["dimension"], metric, normalized, model)


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
