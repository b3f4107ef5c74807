"""Building an index: embeddings in, FAISS shards, documents and a manifest out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybert.artifacts import Folder, Manifest, Shard, finished, hash_bytes, write_manifest
from raybert.errors import ArtifactError, InputError
from raybert.index.kinds import pick_kind
from raybert.index.metric import Floats, pick_metric
from raybert.index.open import DOCUMENTS, ENGINES, open_shards
from raybert.index.payload import write_documents
from raybert.index.recall import PROBES, measure_recall
from raybert.index.source import Embeddings, Ids


@dataclass(frozen=True, slots=True)
class _Plan:
    """What decides the files of an index, beside the embeddings."""

    kind: str
    shards: int
    metric: str


@dataclass(frozen=True, slots=True)
class _Built:
    """One shard as built: its file, its ids in row order, and what was seen of its vectors."""

    file: Shard
    ids: Ids
    width: int
    zeros: int
    greatest_norm: float


def build_index(
    embeddings: str,
    out: str,
    *,
    kind: str = "flat",
    shards: int = 1,
    metric: str | None = None,
    documents: Iterable[pa.Table] | None = None,
    model_fingerprint: str | None = None,
    settings: dict[str, Any] | None = None,
    mlflow_run: str | None = None,
    probes: int = PROBES,
) -> Manifest:
    """Build an index artifact; a finished one is left as it is and its manifest returned.

    Rows keep the corpus's order from shard to shard and are sorted by id within a shard. Memory
    holds about three times one shard's vectors.

    Args:
        embeddings: folder of the embeddings artifact.
        out: folder of the index.
        kind: one of `KINDS`.
        shards: number of shards, at most one a row.
        metric: cosine, dot, euclidean or manhattan; the embeddings' own if None.
        documents: tables with a column `id` and the payload to keep beside the vectors.
        model_fingerprint: the model the embeddings must be of; any if None.
        settings: settings of the job, for the manifest.
        mlflow_run: id of the job's run, for the manifest.
        probes: rows of the corpus to measure recall with; 0 measures nothing.

    Returns:
        The manifest; `details` has dimension, metric, recall, bytes a vector and build seconds.

    Raises:
        ArtifactError: embeddings of another model, damaged shards, `out` holds something else.
        InputError: unknown kind or metric, no rows, NaN vectors, an id twice or without document.
    """
    started = time.perf_counter()
    done = finished_index(embeddings, out, kind=kind, shards=shards, metric=metric)
    source = Embeddings.open(embeddings, model_fingerprint)
    if done is not None:
        return done
    plan, folder = _plan(source, kind, shards, metric), Folder(out)
    for leftover in (ENGINES, DOCUMENTS):
        folder.remove(leftover)
    built = list(_build_shards(folder, source, plan))
    _refuse_twice([shard.ids for shard in built])
    names = [f"{DOCUMENTS}/{at:05d}.arrow" for at in range(len(built))]
    stored = write_documents(folder, names, [shard.ids for shard in built], documents)
    manifest = Manifest(
        kind="index",
        settings=settings or asdict(plan),
        rows=sum(shard.file.rows for shard in built),
        inputs=source.inputs,
        shards=(*(shard.file for shard in built), *stored),
        details=_details(source, plan, built),
        mlflow_run=mlflow_run,
    )
    index = open_shards(folder, manifest, verify=False)
    measured = {
        "recall": measure_recall(index, source, probes=probes).as_dict(),
        "build_seconds": round(time.perf_counter() - started, 3),
    }
    return write_manifest(
        folder, manifest.model_copy(update={"details": manifest.details | measured})
    )


def finished_index(
    embeddings: str,
    out: str,
    *,
    kind: str = "flat",
    shards: int = 1,
    metric: str | None = None,
) -> Manifest | None:
    """Return the manifest of this very index if it is built already; arguments as for building.

    Raises:
        ArtifactError: `out` holds something else.
        InputError: as for building.
    """
    source, folder = Embeddings.open(embeddings), Folder(out)
    plan = _plan(source, kind, shards, metric)
    done = finished(folder)
    if done is None:
        return None
    same = done.kind == "index" and done.details.get("build") == asdict(plan)
    if same and done.input("embeddings").fingerprint == source.manifest.fingerprint:
        return done
    raise ArtifactError(
        f"{folder}: holds a finished {done.kind} artifact of other settings or inputs; "
        "give another --out or remove it"
    )


def _plan(source: Embeddings, kind: str, shards: int, metric: str | None) -> _Plan:
    plan = _Plan(kind, shards, pick_metric(metric or source.metric).name)
    allowed = pick_kind(kind).metrics
    if plan.metric not in allowed:
        raise InputError(f"kind {kind!r} cannot rank by {plan.metric!r}: {', '.join(allowed)}")
    if not 1 <= shards <= source.manifest.rows:
        raise InputError(f"shards {shards}: 1 to {source.manifest.rows}, the embeddings' rows")
    return plan


def _build_shards(folder: Folder, source: Embeddings, plan: _Plan) -> Iterator[_Built]:
    metric, kind = pick_metric(plan.metric), pick_kind(plan.kind)
    for at, (ids, vectors) in enumerate(_cut(source, plan.shards)):
        order = pc.sort_indices(ids).to_numpy()
        prepared = metric.prepare(vectors[order])
        engine = kind.build(prepared, metric)
        file = _write_engine(folder, f"{ENGINES}/{at:05d}.faiss", engine)
        lengths = np.linalg.norm(prepared, axis=1)
        yield _Built(
            file,
            ids.take(pa.array(order)),
            prepared.shape[1],
            int((lengths == 0).sum()),
            float(lengths.max()),
        )


def _cut(source: Embeddings, shards: int) -> Iterator[tuple[Ids, Floats]]:
    """Yield the corpus in `shards` parts of nearly one size, in its order."""
    rows = source.manifest.rows
    sizes = [rows // shards + (at < rows % shards) for at in range(shards)]
    ids: list[Ids] = []
    vectors: list[Floats] = []
    held = 0
    for part_ids, part in source.tables():
        while len(part_ids):
            taken = min(len(part_ids), sizes[0] - held) if sizes else 0
            if not taken:
                raise ArtifactError(f"{source.folder}: holds more rows than its manifest says")
            ids.append(part_ids.slice(0, taken))
            vectors.append(part[:taken])
            part_ids, part, held = part_ids.slice(taken), part[taken:], held + taken
            if held == sizes[0]:
                yield pa.concat_arrays(ids), np.concatenate(vectors)
                ids, vectors, held = [], [], 0
                sizes.pop(0)
    if sizes:
        raise ArtifactError(f"{source.folder}: holds fewer rows than its manifest says")


def _write_engine(folder: Folder, name: str, engine: Any) -> Shard:
    data = faiss.serialize_index(engine).data
    folder.write_bytes(name, data)
    return Shard(file=name, rows=engine.ntotal, bytes=data.nbytes, checksum=hash_bytes(data))


def _refuse_twice(ids: list[Ids]) -> None:
    """Refuse an id that stands in two rows: a hit must name one document."""
    for at, shard in enumerate(ids):
        neighbours = pc.equal(shard.slice(1), shard.slice(0, len(shard) - 1))
        twice = shard.slice(1).filter(neighbours)
        if not len(twice) and at:
            earlier = pa.chunked_array(ids[:at]).combine_chunks()
            twice = shard.filter(pc.is_in(shard, value_set=earlier))
        if len(twice):
            raise InputError(f"id {twice[0].as_py()!r} stands in two rows of the embeddings")


def _details(source: Embeddings, plan: _Plan, built: list[_Built]) -> dict[str, Any]:
    rows = sum(shard.file.rows for shard in built)
    return {
        "kind": plan.kind,
        "metric": plan.metric,
        "dimension": built[0].width,
        "build": asdict(plan),
        "encoding": source.manifest.settings,
        "bytes_per_vector": round(sum(shard.file.bytes for shard in built) / rows, 2),
        "zero_vectors": sum(shard.zeros for shard in built),
        "greatest_norm": max(shard.greatest_norm for shard in built),
    }
