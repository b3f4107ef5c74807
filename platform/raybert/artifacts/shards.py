"""Parquet shards: written under another name, renamed, checked when read."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from raybert.artifacts.fingerprints import hash_bytes
from raybert.artifacts.folder import Folder
from raybert.artifacts.manifest import Manifest, Shard
from raybert.errors import ArtifactError


def write_table(folder: Folder, file: str, table: pa.Table) -> Shard:
    """Write a table as one Parquet file, whole or not at all.

    Returns:
        The shard's line for the manifest.
    """
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    data = sink.getbuffer()
    folder.write_bytes(file, data)
    return Shard(file=file, rows=table.num_rows, bytes=len(data), checksum=hash_bytes(data))


def read_table(folder: Folder, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one shard and check it against the manifest.

    Raises:
        ArtifactError: the shard is missing, truncated or changed; the message names it.
    """
    data = folder.read_bytes(shard.file)
    if len(data) != shard.bytes or hash_bytes(data) != shard.checksum:
        raise ArtifactError(
            f"{folder.path(shard.file)}: damaged: {len(data)} bytes with {hash_bytes(data)}; "
            f"the manifest says {shard.bytes} bytes with {shard.checksum}"
        )
    return pq.read_table(io.BytesIO(data), columns=None if columns is None else list(columns))


def read_tables(
    folder: Folder, manifest: Manifest, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the shards of an artifact in row order, one table at a time."""
    for shard in manifest.shards:
        yield read_table(folder, shard, columns)
