"""Engine files: how a kind's searchable part is written, and mapped or read again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from safetensors.numpy import save

from raybert.artifacts import Folder, Shard
from raybert.errors import ArtifactError
from raybert.index.inverted import InvertedFile

_WORD = 8
_TYPES = {"F32": np.float32, "I32": np.int32, "I64": np.int64}


@dataclass(frozen=True, slots=True)
class EngineFormat:
    """One file format.

    Args:
        suffix: of its files.
        dump: an engine to its bytes.
        map: a local path to an engine that reads the file as it needs it.
        load: bytes to an engine.
    """

    suffix: str
    dump: Callable[[Any], Any]
    map: Callable[[Path], Any]
    load: Callable[[bytes], Any]

    def open(self, folder: Folder, shard: Shard) -> Any:
        """Open an engine: mapped from a local file, from memory where it is remote.

        Raises:
            ArtifactError: the file holds no such engine; it is named.
        """
        try:
            if folder.local is not None:
                return self.map(folder.local / shard.file)
            return self.load(folder.read_bytes(shard.file))
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ArtifactError(f"{folder.path(shard.file)}: no index file: {reason}") from None


def dump_lists(lists: InvertedFile) -> bytes:
    """Return an inverted file in safetensors' format."""
    arrays = asdict(lists)
    count = arrays.pop("count")
    data: bytes = save(arrays, metadata={"count": str(count)})
    return data


def load_lists(data: Any) -> InvertedFile:
    """Return an inverted file over bytes that may be mapped: nothing is copied."""
    size = int.from_bytes(bytes(data[:_WORD]), "little")
    head = json.loads(bytes(data[_WORD : _WORD + size]))
    count = int(head.pop("__metadata__")["count"])
    arrays = {}
    for name, entry in head.items():
        start, end = (_WORD + size + offset for offset in entry["data_offsets"])
        flat = np.frombuffer(data[start:end], dtype=_TYPES[entry["dtype"]])
        arrays[name] = flat.reshape(entry["shape"])
    return InvertedFile(count=count, **arrays)


def _map_lists(path: Path) -> InvertedFile:
    return load_lists(np.memmap(path, dtype=np.uint8, mode="r"))


FLOATS = EngineFormat(
    "faiss",
    lambda engine: faiss.serialize_index(engine).data,
    lambda path: faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC),
    lambda data: faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8)),
)
"""A FAISS index over floats or their codes."""
BITS = EngineFormat(
    "faiss",
    lambda engine: faiss.serialize_index_binary(engine).data,
    lambda path: faiss.read_index_binary(str(path), faiss.IO_FLAG_MMAP_IFC),
    lambda data: faiss.deserialize_index_binary(np.frombuffer(data, dtype=np.uint8)),
)
"""A FAISS index over bits."""
LISTS = EngineFormat("safetensors", dump_lists, _map_lists, load_lists)
"""An inverted file."""
