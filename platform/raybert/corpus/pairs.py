"""Writing mined results: an artifact of one table, or a table a shard, that is found done again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pyarrow as pa

from raybert.artifacts import Folder, Input, Manifest, finished, write_manifest, write_table
from raybert.errors import ArtifactError

SHARDS = "shards"
_NO_PART = ("out", "experiment", "tracking_uri", "workers", "corpus_parts", "device")


def done_before(
    out: str, kind: str, settings: dict[str, Any], inputs: Sequence[Input]
) -> Manifest | None:
    """Return the manifest if this very work is finished.

    Raises:
        ArtifactError: the folder holds something else that is finished.
    """
    manifest = finished(Folder(out))
    if manifest is None:
        return None
    same = [item.fingerprint for item in manifest.inputs] == [item.fingerprint for item in inputs]
    if manifest.kind == kind and same and _decisive(manifest.settings) == _decisive(settings):
        return manifest
    raise ArtifactError(
        f"{out}: holds a finished {manifest.kind} artifact of other settings or inputs; "
        "give another --out or remove it"
    )


def write_result(
    out: str,
    kind: Literal["pairs", "clusters"],
    tables: Iterable[pa.Table],
    *,
    settings: dict[str, Any],
    inputs: Sequence[Input],
    details: dict[str, Any],
    mlflow_run: str | None,
) -> Manifest:
    """Write tables as shards, then the manifest, then remove what only the work needed."""
    folder = Folder(out)
    shards = [
        write_table(folder, f"{SHARDS}/{at:05d}.parquet", table) for at, table in enumerate(tables)
    ]
    manifest = write_manifest(
        folder,
        Manifest(
            kind=kind,
            settings=settings,
            inputs=tuple(inputs),
            shards=tuple(shards),
            details=details,
            mlflow_run=mlflow_run,
        ),
    )
    folder.remove("progress")
    return manifest


def _decisive(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _NO_PART}
