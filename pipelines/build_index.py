"""Build an index: an embeddings artifact in, an index artifact out; BM25 is built from a corpus.

    python pipelines/build_index.py --embeddings artifacts/demo/embeddings \
        --out artifacts/demo/index
    python pipelines/build_index.py --kind bm25 --corpus data/demo/docs.parquet \
        --out artifacts/demo/bm25

Texts and other columns of the corpus are kept beside the vectors, to be shown with a hit and to
filter by. Run the same command again: it does nothing and says so.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from raybert.artifacts import Folder, Manifest, fingerprint_folder, read_manifest
from raybert.corpus import Columns
from raybert.corpus.index_shards import CorpusTables, each_on_ray, with_progress
from raybert.errors import SettingsError
from raybert.evaluation.report import Plot, draw_png
from raybert.index import (
    Choice,
    build_chosen,
    build_index,
    build_text_index,
    finished_choice,
    finished_index,
    finished_text_index,
)
from raybert.index.choice import draw_frontier, measured
from raybert.modules import locate_model
from raybert.settings import JobSettings, Names, run_job
from raybert.tracking import Run, job

_SHARED = {"embeddings", "out", "shards", "metric"}
_ONE_KIND = _SHARED | {"kind", "rescore", "min_recall"}
FRONTIER = "frontier.png"


class BuildIndex(JobSettings):
    """Build an index: an embeddings artifact, or for bm25 a corpus in, an index artifact out."""

    embeddings: str | None = None
    """Folder of the embeddings artifact; every kind but bm25 needs it."""
    kind: Literal["flat", "hnsw", "ivf", "int8", "binary", "pq", "inverted", "bm25", "auto"] = (
        "flat"
    )
    """flat compares with every vector; hnsw and ivf with few; int8, binary and pq keep a byte, a
    bit or two bits a dimension; inverted holds sparse vectors, bm25 texts; auto measures all kinds
    of dense vectors and takes the fastest that reaches min_recall within max_bytes."""
    rescore: Literal["none", "int8", "float32"] | None = None
    """What int8, binary and pq score their candidates by, kept on disk; default: none for int8,
    int8 for the others."""
    min_recall: float | None = Field(None, gt=0, le=1)
    """Recall@10 against exact search to reach or be refused; default: try for 0.98, else warn."""
    max_bytes: int | None = Field(None, ge=1)
    """For auto: most bytes of memory of the whole index, files to rescore by not counted."""
    shards: int = Field(1, ge=1)
    """Parts the index is cut into; building holds one part in memory."""
    workers: int = Field(0, ge=0)
    """Shards built side by side on Ray; 0 builds one after the other, without it."""
    metric: Literal["cosine", "dot", "euclidean", "manhattan"] | None = None
    """Similarity to rank by; default: the one the embeddings' model was made for."""
    model: str | None = None
    """Model folder the embeddings must be of; default: any."""
    documents: bool = True
    """Keep the corpus's text and other columns in the index."""
    corpus: Names | None = None
    """Where the corpus lies now, default: where it lay when it was encoded; for bm25 the corpus."""
    text_column: str = "text"
    """For bm25: column that holds the text."""
    id_column: str = "id"
    """For bm25: column that holds the id."""
    probes: int = Field(200, ge=0)
    """Rows of the corpus to measure recall with; 0 measures nothing."""


def main(settings: BuildIndex) -> str:
    """Build the index; returns where it lies."""
    _refuse(settings)
    corpus = _texts(settings) if settings.kind == "bm25" else None
    if (done := _finished(settings, corpus)) is not None:
        print(f"nothing to do: all {done.rows:,} rows are indexed already")
        return settings.out
    if corpus is None and settings.documents:
        corpus = _documents(settings)
    with job(settings, name=f"index {Path(settings.out).name}", kind="build_index") as run:
        manifest = _built(settings, corpus, run.run_id)
        for source in manifest.inputs[:1]:
            run.input(source.kind, source.uri, source.fingerprint)
        _record(run, manifest, Folder(settings.out))
    print(f"{manifest.rows:,} rows in {settings.shards} shard(s), {_summary(manifest)}")
    return settings.out


def _refuse(settings: BuildIndex) -> None:
    """Refuse settings that do not go together."""
    from_texts = settings.kind == "bm25"
    if from_texts and (settings.embeddings or not settings.corpus):
        raise SettingsError("--kind bm25 is built from the texts of --corpus, without --embeddings")
    if not from_texts and not settings.embeddings:
        raise SettingsError(f"--kind {settings.kind} is built from --embeddings; name their folder")
    if settings.max_bytes is not None and settings.kind != "auto":
        raise SettingsError(f"--max-bytes is for --kind auto, not {settings.kind}")


def _texts(settings: BuildIndex) -> CorpusTables:
    """Open the corpus that bm25 is built from."""
    return CorpusTables(settings.corpus or [], Columns(settings.text_column, settings.id_column))


def _documents(settings: BuildIndex) -> CorpusTables:
    """Open the corpus that was encoded, and no other."""
    embeddings = read_manifest(str(settings.embeddings), kind="embeddings")
    encoding = embeddings.settings
    names = encoding["text_column"], encoding["id_column"], encoding.get("image_column")
    columns = Columns.of(*names)
    corpus = CorpusTables(settings.corpus or encoding["corpus"], columns)
    return corpus.of(embeddings.input("corpus"))


def _choice(settings: BuildIndex) -> Choice:
    least = {} if settings.min_recall is None else {"min_recall": settings.min_recall}
    return Choice(max_bytes=settings.max_bytes, **least)


def _finished(settings: BuildIndex, corpus: CorpusTables | None) -> Manifest | None:
    if corpus is not None:
        return finished_text_index(settings.out, corpus.input, settings.shards)
    if settings.kind == "auto":
        return finished_choice(**settings.model_dump(include=_SHARED), choice=_choice(settings))
    return finished_index(**settings.model_dump(include=_ONE_KIND))


def _built(settings: BuildIndex, corpus: CorpusTables | None, mlflow_run: str | None) -> Manifest:
    on_ray = settings.workers and settings.embeddings is not None
    recorded: dict[str, Any] = {
        "settings": settings.model_dump(mode="json"),
        "mlflow_run": mlflow_run,
        "probes": settings.probes,
        "each": with_progress(each_on_ray(settings.workers) if on_ray else map),
    }
    if settings.embeddings is None:
        assert corpus is not None, "texts are opened before"
        return build_text_index(
            corpus,
            settings.out,
            corpus=corpus.input,
            text_column=settings.text_column,
            keep=settings.documents,
            shards=settings.shards,
            **recorded,
        )
    recorded |= {
        "documents": corpus,
        "model_fingerprint": fingerprint_folder(locate_model(settings.model))
        if settings.model
        else None,
    }
    if settings.kind == "auto":
        shared = settings.model_dump(include=_SHARED)
        return build_chosen(**shared, choice=_choice(settings), **recorded)
    return build_index(**settings.model_dump(include=_ONE_KIND), **recorded)


def _record(run: Run, manifest: Manifest, out: Folder) -> None:
    """Record what was measured: recall and time over the efforts tried, sizes, the picture."""
    details = manifest.details
    for tried in details["tried"]:
        if tried["value"] is not None:
            run.metric("recall", tried["value"], step=tried["effort"])
            run.metric("query_milliseconds", tried["milliseconds"], step=tried["effort"])
    sizes = ("bytes_per_vector", "stored_bytes_per_vector", "build_seconds")
    run.metrics({"rows": manifest.rows} | {name: details[name] for name in sizes})
    points = details.get("frontier") or [measured(manifest)]
    title = f"{manifest.rows:,} vectors: recall over time"
    out.write_bytes(
        FRONTIER, draw_png(Plot("frontier", title, lambda axes: draw_frontier(axes, points)))
    )
    if out.local is not None:
        run.artifact(out.local / FRONTIER)


def _summary(manifest: Manifest) -> str:
    recall: dict[str, Any] = manifest.details["recall"]
    known = "not measured" if recall["value"] is None else f"{recall['value']:.4f}"
    return (
        f"recall@{recall['at']} {known} on {recall['probes']} probes, "
        f"{manifest.details['bytes_per_vector']:.0f} bytes a vector"
    )


if __name__ == "__main__":
    run_job(BuildIndex, main)
