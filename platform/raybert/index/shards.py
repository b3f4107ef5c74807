"""Building the shards of an index: one part of the corpus in memory at a time."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from raybert.artifacts import Folder, Shard, hash_bytes
from raybert.errors import InputError
from raybert.index.kinds import pick_kind
from raybert.index.metric import pick_metric
from raybert.index.open import ENGINES, VECTORS
from raybert.index.plan import Plan
from raybert.index.queries import prepare_sparse
from raybert.index.rescoring import stored_vectors
from raybert.index.source import Ids, Source
from raybert.vectors import Ranges


@dataclass(frozen=True, slots=True)
class Built:
    """One shard as built.

    Args:
        engine: the file that is searched.
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


def corpus_ranges(source: Source, plan: Plan) -> Ranges:
    """Return the ranges of all prepared vectors, in one pass."""
    metric = pick_metric(plan.metric)
    blocks = (Ranges.of(metric.prepare(vectors)) for _, vectors in source.tables())
    return reduce(Ranges.merge, blocks)


@dataclass(frozen=True, slots=True)
class BuildShard:
    """Builds and writes one shard by its number; shards may be built side by side.

    Args:
        folder: the index.
        source: rows of all shards.
        plan: how to build.
        ranges: the ranges of the whole corpus, for kinds that keep bytes.
    """

    folder: Folder
    source: Source
    plan: Plan
    ranges: Ranges | None

    def __call__(self, at: int) -> Built:
        """Build shard `at`, its rows sorted by id."""
        metric, kind = pick_metric(self.plan.metric), pick_kind(self.plan.kind)
        ids, rows = self._part(at)
        order = pc.sort_indices(ids).to_numpy()
        rows = rows[order]
        prepared = metric.prepare(rows) if kind.reads == "dense" else prepare_sparse(rows, metric)
        engine = kind.build(prepared, metric, self.ranges)
        name = f"{ENGINES}/{at:05d}.{kind.format.suffix}"
        file = write_file(self.folder, name, kind.format.dump(engine), len(ids))
        store = None
        if self.plan.rescore not in (None, "none"):
            kept = stored_vectors(prepared, str(self.plan.rescore), self.ranges)
            store = _write_array(self.folder, f"{VECTORS}/{at:05d}.npy", kept)
        lengths = np.sqrt((prepared * prepared).sum(axis=1, dtype=np.float64))
        return Built(
            file,
            store,
            ids.take(pa.array(order)),
            int(prepared.shape[1]),
            int((lengths == 0).sum()),
            float(lengths.max()),
        )

    def _part(self, at: int) -> tuple[Ids, Any]:
        """Read one of `shards` parts of nearly one size."""
        size, longer = divmod(self.source.rows, self.plan.shards)
        start = at * size + min(at, longer)
        parts = list(self.source.tables(start, start + size + (at < longer)))
        blocks = [block for _, block in parts]
        joined = (
            sparse.vstack(blocks).tocsr() if sparse.issparse(blocks[0]) else np.concatenate(blocks)
        )
        return pa.concat_arrays([ids for ids, _ in parts]), joined


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


def _write_array(folder: Folder, name: str, array: Any) -> Shard:
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return write_file(folder, name, sink.getbuffer(), len(array))


def write_file(folder: Folder, name: str, data: Any, rows: int) -> Shard:
    """Write one file of an index; returns its line for the manifest."""
    view = memoryview(data)
    folder.write_bytes(name, view)
    return Shard(file=name, rows=rows, bytes=view.nbytes, checksum=hash_bytes(view))
