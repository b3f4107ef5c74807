"""Building an index: embeddings in, FAISS shards, documents and a manifest out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeAlias, TypedDict, Unpack

import pyarrow as pa

from raybert.artifacts import Folder, Input, Manifest, finished, write_manifest
from raybert.errors import ArtifactError, InputError
from raybert.index.bm25 import WORDS, Texts, words_file
from raybert.index.kinds import pick_kind
from raybert.index.metric import pick_metric
from raybert.index.open import DOCUMENTS, ENGINES, VECTORS, VOCABULARY, open_shards
from raybert.index.payload import write_documents
from raybert.index.plan import Plan
from raybert.index.recall import PROBES, Probe, Recall
from raybert.index.search import Index
from raybert.index.shards import BuildShard, Built, corpus_ranges, refuse_twice, write_file
from raybert.index.source import Source, open_source
from raybert.index.sparse_recall import draw_sparse
from raybert.records import TEXT

EachShard: TypeAlias = Callable[[Callable[[int], Built], Iterable[int]], Iterable[Built]]
TARGET_RECALL = 0.98
"""Recall@10 that the effort of an approximate kind is chosen for if nothing else is said."""


class Beside(TypedDict, total=False):
    """What any build may be given beside its plan; none of it decides what is in the files."""

    settings: dict[str, Any] | None
    """Settings of the job, for the manifest."""
    mlflow_run: str | None
    """Id of the job's run, for the manifest."""
    probes: int
    """Rows of the corpus to measure recall with (200); 0 measures nothing."""
    each: EachShard
    """How the shards are built, in order: `map` one after the other, or side by side."""


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
    **beside: Unpack[Beside],
) -> Manifest:
    """Build an index of embeddings; a finished one is left as it is and its manifest returned.

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
        beside: see `Beside`.

    Returns:
        The manifest; `details` has dimension, metric, recall, effort, bytes a vector and seconds.

    Raises:
        ArtifactError: embeddings of another model, damaged shards, `out` holds something else.
        InputError: unknown kind or metric, no rows, NaN vectors, an id twice or without document,
            recall below `min_recall`.
    """
    source = open_source(embeddings, kind, model_fingerprint)
    plan = Plan.of(source, kind, shards, metric, rescore, min_recall)
    return build_from(source, Folder(out), plan, documents=documents, **beside)


def build_text_index(
    documents: Iterable[pa.Table],
    out: str,
    *,
    corpus: Input,
    text_column: str = TEXT,
    keep: bool = True,
    shards: int = 1,
    **beside: Unpack[Beside],
) -> Manifest:
    """Build a BM25 index of texts; a finished one is left as it is and its manifest returned.

    Args:
        documents: tables with a column `id`, the text column and the payload; read twice.
        out: folder of the index.
        corpus: the corpus they are from.
        text_column: name of the text column.
        keep: keep the documents beside the index.
        shards: number of shards, at most one a document.
        beside: see `Beside`.

    Raises:
        ArtifactError: `out` holds something else.
        InputError: no text column, no word in any document, an id twice.
    """
    if (done := finished_text_index(out, corpus, shards)) is not None:
        return done
    source = Texts.of(documents, text_column, corpus)
    plan = Plan.of(source, "bm25", shards, None, None, None)
    kept = documents if keep else None
    return build_from(source, Folder(out), plan, documents=kept, **beside)


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
    source = open_source(embeddings, kind)
    plan = Plan.of(source, kind, shards, metric, rescore, min_recall)
    return finished_as(Folder(out), source.inputs[0], "build", asdict(plan))


def finished_text_index(out: str, corpus: Input, shards: int = 1) -> Manifest | None:
    """Return the manifest of this very BM25 index if it is built already.

    Raises:
        ArtifactError: `out` holds something else.
    """
    plan = Plan("bm25", shards, "dot", None, None)
    return finished_as(Folder(out), corpus, "build", asdict(plan))


def build_from(
    source: Source,
    folder: Folder,
    plan: Plan,
    *,
    documents: Iterable[pa.Table] | None = None,
    refuse: bool = True,
    more: dict[str, Any] | None = None,
    **beside: Unpack[Beside],
) -> Manifest:
    """Build an index by a plan; arguments as for `build_index`.

    Args:
        source: the rows.
        folder: the index.
        plan: how to build.
        documents: payload tables.
        refuse: refuse an index below the recall that is asked for; else only measure it.
        more: further details for the manifest.
        beside: see `Beside`.
    """
    if (done := finished_as(folder, source.inputs[0], "build", asdict(plan))) is not None:
        return done
    probes, each = beside.get("probes", PROBES), beside.get("each", map)
    started = time.perf_counter()
    for leftover in (ENGINES, VECTORS, DOCUMENTS, VOCABULARY):
        folder.remove(leftover)
    ranges = corpus_ranges(source, plan) if plan.ranged else None
    built = list(each(BuildShard(folder, source, plan, ranges), range(plan.shards)))
    refuse_twice([shard.ids for shard in built])
    names = [f"{DOCUMENTS}/{at:05d}.arrow" for at in range(len(built))]
    stored = write_documents(folder, names, [shard.ids for shard in built], documents)
    details = _details(source, plan, built) | (more or {})
    if ranges is not None:
        details["ranges"] = ranges.as_lists()
    if isinstance(source, Texts):
        words = words_file(source.words)
        stored.append(write_file(folder, f"{VOCABULARY}/words.arrow", words, len(source.words)))
        details["words"] = dict(WORDS)
    manifest = Manifest(
        kind="index",
        settings=beside.get("settings") or asdict(plan),
        rows=source.rows,
        inputs=source.inputs,
        shards=(*(s.engine for s in built), *(s.store for s in built if s.store), *stored),
        details=details,
        mlflow_run=beside.get("mlflow_run"),
    )
    index = open_shards(folder, manifest, verify=False)
    tried = _tried(index, _probe(source, plan, probes), plan)
    if refuse:
        _judge(tried[-1], plan, probes)
    details |= {
        "effort": tried[-1].effort,
        "recall": tried[-1].as_dict(),
        "tried": [one.as_dict() for one in tried],
        "build_seconds": round(time.perf_counter() - started, 3),
    }
    return write_manifest(folder, manifest.model_copy(update={"details": details}))


def _probe(source: Source, plan: Plan, probes: int) -> Probe:
    if pick_kind(plan.kind).reads == "dense":
        return Probe.draw(source, plan.metric, probes)
    return draw_sparse(source, pick_metric(plan.metric), probes)


def finished_as(
    folder: Folder, made_from: Input, detail: str, asked: dict[str, Any]
) -> Manifest | None:
    """Return the manifest of the index in a folder if it is the one that is asked for.

    Args:
        folder: the folder.
        made_from: the input it must be made from.
        detail: the detail of its manifest that says what was asked for then.
        asked: what is asked for now.

    Raises:
        ArtifactError: the folder holds something else that is finished.
    """
    done = finished(folder)
    if done is None:
        return None
    same = done.kind == "index" and done.details.get(detail) == asked
    if same and done.input(made_from.kind).fingerprint == made_from.fingerprint:
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
    if not probe.queries.shape[0]:
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
            stacklevel=4,
        )


def _details(source: Source, plan: Plan, built: list[Built]) -> dict[str, Any]:
    rows = source.rows
    return {
        "kind": plan.kind,
        "reads": pick_kind(plan.kind).reads,
        "metric": plan.metric,
        "dimension": built[0].width,
        "build": asdict(plan),
        "encoding": source.encoding,
        "bytes_per_vector": round(sum(shard.engine.bytes for shard in built) / rows, 2),
        "stored_bytes_per_vector": round(
            sum(shard.store.bytes for shard in built if shard.store) / rows, 2
        ),
        "zero_vectors": sum(shard.zeros for shard in built),
        "greatest_norm": max(shard.greatest_norm for shard in built),
    }
