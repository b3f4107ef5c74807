"""Building the shards of an index: one part of the corpus in memory at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybert.artifacts import Folder, Shard, hash_bytes
from raybert.errors import ArtifactError, InputError
from raybert.index.kinds import pick_kind
from raybert.index.metric import Floats, pick_metric
from raybert.index.open import ENGINES, VECTORS
from raybert.index.plan import Plan
from raybert.index.rescoring import stored_vectors
from raybert.index.source import Embeddings, Ids
from raybert.vectors import Ranges


@dataclass(frozen=True, slots=True)
class Built:
    """One shard as built.

    Args:
        engine: its FAISS file.
        store: its file of vectors to rescore by, if it has one.
        ids: its ids in row order.
        width: width of its vectors.
        zeros: vectors that are all zero.
        greatest_norm: length of its longest vector.
    """

    engine: Shard
    store: Shard | None
    ids: Ids
    width: int
    zeros: int
    greatest_norm: float


def corpus_ranges(source: Embeddings, plan: Plan) -> Ranges:
    """Return the ranges of all prepared vectors, in one pass."""
    metric = pick_metric(plan.metric)
    blocks = (Ranges.of(metric.prepare(vectors)) for _, vectors in source.tables())
    return reduce(Ranges.merge, blocks)


def build_shards(
    folder: Folder, source: Embeddings, plan: Plan, ranges: Ranges | None
) -> Iterator[Built]:
    """Build and write the shards one after the other, rows sorted by id within each."""
    metric, kind = pick_metric(plan.metric), pick_kind(plan.kind)
    for at, (ids, vectors) in enumerate(_cut(source, plan.shards)):
        order = pc.sort_indices(ids).to_numpy()
        prepared = metric.prepare(vectors[order])
        engine = kind.build(prepared, metric, ranges)
        file = _write_engine(folder, f"{ENGINES}/{at:05d}.faiss", engine, kind.binary)
        store = None
        if plan.rescore not in (None, "none"):
            kept = stored_vectors(prepared, str(plan.rescore), ranges)
            store = _write_array(folder, f"{VECTORS}/{at:05d}.npy", kept)
        lengths = np.linalg.norm(prepared, axis=1)
        yield Built(
            file,
            store,
            ids.take(pa.array(order)),
            prepared.shape[1],
            int((lengths == 0).sum()),
            float(lengths.max()),
        )


def refuse_twice(ids: list[Ids]) -> None:
    """Refuse an id that stands in two rows: a hit must name one document.

    Raises:
        InputError: names the id.
    """
    for at, shard in enumerate(ids):
        neighbours = pc.equal(shard.slice(1), shard.slice(0, len(shard) - 1))
        twice = shard.slice(1).filter(neighbours)
        if not len(twice) and at:
            earlier = pa.chunked_array(ids[:at]).combine_chunks()
            twice = shard.filter(pc.is_in(shard, value_set=earlier))
        if len(twice):
            raise InputError(f"id {twice[0].as_py()!r} stands in two rows of the embeddings")


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


def _write_engine(folder: Folder, name: str, engine: Any, binary: bool) -> Shard:
    serialize = faiss.serialize_index_binary if binary else faiss.serialize_index
    return _write(folder, name, serialize(engine).data, engine.ntotal)


def _write_array(folder: Folder, name: str, array: Any) -> Shard:
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return _write(folder, name, sink.getbuffer(), len(array))


def _write(folder: Folder, name: str, data: memoryview, rows: int) -> Shard:
    folder.write_bytes(name, data)
    return Shard(file=name, rows=rows, bytes=data.nbytes, checksum=hash_bytes(data))
