"""Build an index: an embeddings artifact in, an index artifact out.

    python pipelines/build_index.py --embeddings artifacts/demo/embeddings \
        --out artifacts/demo/index

Texts and other columns of the corpus are kept beside the vectors, to be shown with a hit. Run the
same command again: it does nothing and says so.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from raybert.artifacts import Manifest, fingerprint_folder, read_manifest
from raybert.corpus import Columns, cut_into_pieces, find_files, scan_corpus, scan_pieces
from raybert.corpus.documents import read_documents
from raybert.errors import ArtifactError
from raybert.index import build_index, finished_index
from raybert.modules import locate_model
from raybert.settings import JobSettings, Names, run_job
from raybert.tracking import Run, job

_BUILD = {"embeddings", "out", "kind", "shards", "metric", "rescore", "min_recall"}


class BuildIndex(JobSettings):
    """Build an index: an embeddings artifact in, an index artifact out."""

    embeddings: str
    """Folder of the embeddings artifact."""
    kind: Literal["flat", "hnsw", "ivf", "int8", "binary"] = "flat"
    """flat compares with every vector; hnsw and ivf with few; int8 and binary keep a byte or a bit
    a dimension."""
    rescore: Literal["none", "int8", "float32"] | None = None
    """What int8 and binary score their candidates by, kept on disk; default: none for int8, int8
    for binary."""
    min_recall: float | None = Field(None, gt=0, le=1)
    """Recall@10 against exact search to reach or be refused; default: try for 0.98, else warn."""
    shards: int = Field(1, ge=1)
    """Parts the index is cut into; building holds one part in memory."""
    metric: Literal["cosine", "dot", "euclidean", "manhattan"] | None = None
    """Similarity to rank by; default: the one the embeddings' model was made for."""
    model: str | None = None
    """Model folder the embeddings must be of; default: any."""
    documents: bool = True
    """Keep the corpus's text and other columns in the index."""
    corpus: Names | None = None
    """Where the corpus lies now; default: where it lay when it was encoded."""
    probes: int = Field(200, ge=0)
    """Rows of the corpus to measure recall with; 0 measures nothing."""


def main(settings: BuildIndex) -> str:
    """Build the index; returns where it lies."""
    embeddings = read_manifest(settings.embeddings, kind="embeddings")
    build = settings.model_dump(include=_BUILD)
    if (done := finished_index(**build)) is not None:
        print(f"nothing to do: all {done.rows:,} rows are indexed already")
        return settings.out
    wanted = fingerprint_folder(locate_model(settings.model)) if settings.model else None

    with job(settings, name=f"index {Path(settings.out).name}", kind="build_index") as run:
        run.input("embeddings", settings.embeddings, embeddings.fingerprint)
        manifest = build_index(
            **build,
            documents=_documents(settings, embeddings) if settings.documents else None,
            model_fingerprint=wanted,
            settings=settings.model_dump(mode="json"),
            mlflow_run=run.run_id,
            probes=settings.probes,
        )
        _record(run, manifest)
    print(f"{manifest.rows:,} rows in {settings.shards} shard(s), {_summary(manifest)}")
    return settings.out


def _documents(settings: BuildIndex, embeddings: Manifest) -> Iterator[pa.Table]:
    """Read the corpus that was encoded, and no other."""
    encoding = embeddings.settings
    columns = Columns(encoding["text_column"], encoding["id_column"])
    corpus = settings.corpus or encoding["corpus"]
    pieces = cut_into_pieces(find_files(corpus))
    if (
        scan_corpus(pieces, columns, scan_pieces).fingerprint
        != embeddings.input("corpus").fingerprint
    ):
        raise ArtifactError(
            f"corpus {', '.join(corpus)}: is not what was encoded; run encode_corpus again, "
            "or give --corpus, or --no-documents"
        )
    return read_documents(pieces, columns)


def _record(run: Run, manifest: Manifest) -> None:
    """Record what was measured: recall and time over the efforts tried, and sizes."""
    details = manifest.details
    for tried in details["tried"]:
        if tried["value"] is not None:
            run.metric("recall", tried["value"], step=tried["effort"])
            run.metric("query_milliseconds", tried["milliseconds"], step=tried["effort"])
    sizes = ("bytes_per_vector", "stored_bytes_per_vector", "build_seconds")
    run.metrics({"rows": manifest.rows} | {name: details[name] for name in sizes})


def _summary(manifest: Manifest) -> str:
    recall: dict[str, Any] = manifest.details["recall"]
    known = "not measured" if recall["value"] is None else f"{recall['value']:.4f}"
    return (
        f"recall@{recall['at']} {known} on {recall['probes']} probes, "
        f"{manifest.details['bytes_per_vector']:.0f} bytes a vector"
    )


if __name__ == "__main__":
    run_job(BuildIndex, main)
