"""Content hashes: what makes two artifacts, models or rows the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xxhash

from raybert.errors import ModelError

_NOT_CONTENT = (".git", "README", "LICENSE", "NOTICE", "manifest.json", "__pycache__", ".cache")
_CHUNK = 8 << 20


def hash_bytes(data: bytes | memoryview) -> str:
    """Return the checksum written into manifests: `xxh3:` and 16 hexadecimal digits."""
    return f"xxh3:{xxhash.xxh3_64_hexdigest(data)}"


def fingerprint(value: Any) -> str:
    """Return 32 hexadecimal digits that identify a JSON-like value, key order aside."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return xxhash.xxh3_128_hexdigest(text.encode())


def content_hash(text: str, context: str) -> str:
    """Return 32 hexadecimal digits that change when a row must be encoded anew.

    Args:
        text: the row's text.
        context: the fingerprint of all else its vector depends on (prompt, model, settings).
    """
    return xxhash.xxh3_128_hexdigest(f"{context}\0{text}".encode("utf-8", "surrogatepass"))


def fingerprint_file(path: str | Path) -> str:
    """Return the content hash of one local file, read in chunks."""
    hasher = xxhash.xxh3_128()
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def fingerprint_folder(path: str | Path) -> str:
    """Return the content hash of a model folder: names and bytes of every file that matters.

    Readme, licence, notes of version control and our own manifest do not count: editing a model
    card does not make another model.

    Raises:
        ModelError: there is no such folder, or nothing in it.
    """
    root = Path(path)
    if not root.is_dir():
        raise ModelError(f"{root}: no such model folder")
    files = sorted(_model_files(root))
    if not files:
        raise ModelError(f"{root}: the model folder is empty")
    return fingerprint(
        {file.relative_to(root).as_posix(): fingerprint_file(file) for file in files}
    )


def _model_files(root: Path) -> Iterable[Path]:
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if path.is_file() and not any(part.startswith(_NOT_CONTENT) for part in parts):
            yield path
