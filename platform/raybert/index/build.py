"""Building an index: embeddings in, FAISS shards, documents and a manifest out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from raybert.artifacts import Folder, Manifest, finished, write_manifest
from raybert.errors import ArtifactError, InputError
from raybert.index.kinds import pick_kind
from raybert.index.open import DOCUMENTS, ENGINES, VECTORS, open_shards
from raybert.index.payload import write_documents
from raybert.index.plan import Plan
from raybert.index.recall import PROBES, Probe, Recall
from raybert.index.search import Index
from raybert.index.shards import Built, build_shards, corpus_ranges, refuse_twice
from raybert.index.source import Embeddings

TARGET_RECALL = 0.98
"""Recall@10 that the effort of an approximate kind is chosen for if nothing else is said."""


def build_index(
    embeddings: str,
    out: str,
    *,
    kind: str = "flat",
    shards: int = 1,
    metric: str | None = None,
    rescore: str | None = None,
    min_recall: float | None = None,
    documents: Iterable[pa.Table] | None = None,
    model_fingerprint: str | None = None,
    settings: dict[str, Any] | None = None,
    mlflow_run: str | None = None,
    probes: int = PROBES,
) -> Manifest:
    """Build an index artifact; a finished one is left as it is and its manifest returned.

    Rows keep the corpus's order from shard to shard and are sorted by id within a shard. Memory
    holds about three times one shard's vectors. An approximate kind gets the least effort whose
    recall, measured against exact search, reaches the target.

    Args:
        embeddings: folder of the embeddings artifact.
        out: folder of the index.
        kind: one of `KINDS`.
        shards: number of shards, at most one a row.
        metric: cosine, dot, euclidean or manhattan; the embeddings' own if None.
        rescore: what a quantized kind scores its candidates by: none, int8 or float32, kept on
            disk beside it; the kind's own if None.
        min_recall: recall@10 to reach; a build that does not is refused. If None, 0.98 is tried
            for and a build below it warns.
        documents: tables with a column `id` and the payload to keep beside the vectors.
        model_fingerprint: the model the embeddings must be of; any if None.
        settings: settings of the job, for the manifest.
        mlflow_run: id of the job's run, for the manifest.
        probes: rows of the corpus to measure recall with; 0 measures nothing.

    Returns:
        The manifest; `details` has dimension, metric, recall, effort, bytes a vector and seconds.

    Raises:
        ArtifactError: embeddings of another model, damaged shards, `out` holds something else.
        InputError: unknown kind or metric, no rows, NaN vectors, an id twice or without document,
            recall below `min_recall`.
    """
    started = time.perf_counter()
    source, folder = Embeddings.open(embeddings, model_fingerprint), Folder(out)
    plan = Plan.of(source, kind, shards, metric, rescore, min_recall)
    if (done := _finished(folder, source, plan)) is not None:
        return done
    for leftover in (ENGINES, VECTORS, DOCUMENTS):
        folder.remove(leftover)
    ranges = corpus_ranges(source, plan) if plan.ranged else None
    built = list(build_shards(folder, source, plan, ranges))
    refuse_twice([shard.ids for shard in built])
    names = [f"{DOCUMENTS}/{at:05d}.arrow" for at in range(len(built))]
    stored = write_documents(folder, names, [shard.ids for shard in built], documents)
    details = _details(source, plan, built)
    if ranges is not None:
        details["ranges"] = ranges.as_lists()
    manifest = Manifest(
        kind="index",
        settings=settings or asdict(plan),
        rows=source.manifest.rows,
        inputs=source.inputs,
        shards=(*(s.engine for s in built), *(s.store for s in built if s.store), *stored),
        details=details,
        mlflow_run=mlflow_run,
    )
    index = open_shards(folder, manifest, verify=False)
    tried = _tried(index, Probe.draw(source, plan.metric, probes), plan)
    _judge(tried[-1], plan, probes)
    details |= {
        "effort": tried[-1].effort,
        "recall": tried[-1].as_dict(),
        "tried": [one.as_dict() for one in tried],
        "build_seconds": round(time.perf_counter() - started, 3),
    }
    return write_manifest(folder, manifest.model_copy(update={"details": details}))


def finished_index(
    embeddings: str,
    out: str,
    *,
    kind: str = "flat",
    shards: int = 1,
    metric: str | None = None,
    rescore: str | None = None,
    min_recall: float | None = None,
) -> Manifest | None:
    """Return the manifest of this very index if it is built already; arguments as for building.

    Raises:
        ArtifactError: `out` holds something else.
        InputError: as for building.
    """
    source = Embeddings.open(embeddings)
    plan = Plan.of(source, kind, shards, metric, rescore, min_recall)
    return _finished(Folder(out), source, plan)


def _finished(folder: Folder, source: Embeddings, plan: Plan) -> Manifest | None:
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


def _tried(index: Index, probe: Probe, plan: Plan) -> list[Recall]:
    """Measure at rising effort until the target is reached; the last one is kept."""
    efforts = pick_kind(plan.kind).efforts
    if plan.rescore == "none":
        efforts = efforts[:1]  # without a store, more candidates change nothing
    if not efforts:
        return [probe.measure(index)]
    if not len(probe.queries):
        efforts = efforts[len(efforts) // 2 :][:1]
    tried: list[Recall] = []
    for effort in efforts:
        index.effort = effort
        tried.append(probe.measure(index))
        if tried[-1].reaches(plan.min_recall or TARGET_RECALL):
            break
    return tried


def _judge(recall: Recall, plan: Plan, probes: int) -> None:
    """Refuse or warn where recall is below the target."""
    if plan.min_recall is not None and not recall.reaches(plan.min_recall):
        measured = "was not measured" if recall.value is None else f"is {recall.value:.4f}"
        raise InputError(
            f"kind {plan.kind!r}: recall@{recall.at} {measured} on {probes} probes, "
            f"--min-recall asks for {plan.min_recall}"
        )
    if plan.min_recall is None and recall.value is not None and recall.value < TARGET_RECALL:
        warnings.warn(
            f"index kind {plan.kind!r} finds {recall.value:.1%} of the {recall.at} nearest",
            stacklevel=3,
        )


def _details(source: Embeddings, plan: Plan, built: list[Built]) -> dict[str, Any]:
    rows = source.manifest.rows
    return {
        "kind": plan.kind,
        "metric": plan.metric,
        "dimension": built[0].width,
        "build": asdict(plan),
        "encoding": source.manifest.settings,
        "bytes_per_vector": round(sum(shard.engine.bytes for shard in built) / rows, 2),
        "stored_bytes_per_vector": round(
            sum(shard.store.bytes for shard in built if shard.store) / rows, 2
        ),
        "zero_vectors": sum(shard.zeros for shard in built),
        "greatest_norm": max(shard.greatest_norm for shard in built),
    }
