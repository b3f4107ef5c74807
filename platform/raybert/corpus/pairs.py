"""Writing mined results: an artifact of one table, or a table a shard, that is found done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from raybert.artifacts import Folder, Input, Manifest, finished, write_manifest, write_table
from raybert.errors import ArtifactError
from raybert.settings import JobSettings
from raybert.tracking import job
from raybert.tracking.run import Run

SHARDS = "shards"
Kind = Literal["pairs", "clusters"]
_NO_PART = ("out", "experiment", "tracking_uri", "workers", "corpus_parts", "device")


class Result(NamedTuple):
    """What a job came to: its table, the manifest's details, and a line that says it."""

    table: pa.Table
    details: dict[str, Any]
    said: str


def produce(
    settings: JobSettings,
    name: str,
    kind: Kind,
    inputs: Sequence[Input],
    work: Callable[[Run], Result],
) -> str:
    """Do a job of one result, as one MLflow run, unless it is done already; returns where it lies.

    Numbers among the details are the run's metrics.

    Args:
        settings: the job's.
        name: the job's, as the run is tagged.
        kind: what it writes.
        inputs: what decides the result beside the settings.
        work: does it.

    Raises:
        ArtifactError: the folder holds something else that is finished.
    """
    asked = settings.model_dump(mode="json")
    if (done := done_before(settings.out, kind, asked, inputs)) is not None:
        print(f"nothing to do: {done.rows:,} rows are there already")
        return settings.out
    with job(settings, name=f"{name} {Path(settings.out).name}", kind=name) as run:
        for item in inputs:
            run.input(item.kind, item.uri, item.fingerprint)
        table, details, said = work(run)
        counts = {"rows": table.num_rows, **details}
        run.metrics({n: float(v) for n, v in counts.items() if isinstance(v, int | float)})
        write_result(
            settings.out,
            kind,
            [table],
            settings=asked,
            inputs=inputs,
            details=details,
            mlflow_run=run.run_id,
        )
    print(said)
    return settings.out


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
    kind: Kind,
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
