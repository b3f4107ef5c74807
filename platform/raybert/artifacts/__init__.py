"""Artifacts: folders that know what they were made from, and are there whole or not at all."""

from raybert.artifacts.fingerprints import (
    content_hash,
    fingerprint,
    fingerprint_file,
    fingerprint_folder,
    hash_bytes,
)
from raybert.artifacts.folder import Folder
from raybert.artifacts.lineage import Lineage, lineage
from raybert.artifacts.manifest import (
    MANIFEST,
    Input,
    Manifest,
    Shard,
    finished,
    read_manifest,
    write_manifest,
)
from raybert.artifacts.shards import read_table, read_tables, write_table

__all__ = [
    "MANIFEST",
    "Folder",
    "Input",
    "Lineage",
    "Manifest",
    "Shard",
    "content_hash",
    "fingerprint",
    "fingerprint_file",
    "fingerprint_folder",
    "finished",
    "hash_bytes",
    "lineage",
    "read_manifest",
    "read_table",
    "read_tables",
    "write_manifest",
    "write_table",
]
