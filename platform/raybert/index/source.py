"""The embeddings an index is built from: read shard by shard, checked as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from raybert.artifacts import Folder, Input, Manifest, Shard, read_manifest, read_table
from raybert.errors import ArtifactError, InputError
from raybert.index.kinds import pick_kind
from raybert.index.metric import Floats
from raybert.index.queries import refuse_weights
from raybert.records import ID, TERMS, VECTOR, WEIGHTS
from raybert.vectors.quantization import Ranges, dequantize

Ids: TypeAlias = Any
"""An Arrow array of large strings."""
_DEFAULT_METRIC = "cosine"


class Source(Protocol):
    """Rows that an index is built from."""

    @property
    def rows(self) -> int:
        """Number of rows N."""
        ...

    @property
    def fingerprint(self) -> str:
        """What these very rows are known by."""
        ...

    @property
    def metric(self) -> str:
        """The similarity they are meant for."""
        ...

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What they were made from, as an index names it."""
        ...

    @property
    def encoding(self) -> dict[str, Any]:
        """Settings they were made with."""
        ...

    def tables(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[Ids, Any]]:
        """Yield ids and rows from `start` to `stop` in blocks, in corpus order."""
        ...


@dataclass(frozen=True, slots=True)
class Embeddings:
    """An embeddings artifact, opened.

    Args:
        folder: where it lies.
        manifest: its manifest.
    """

    folder: Folder
    manifest: Manifest

    @classmethod
    def open(cls, uri: str, model_fingerprint: str | None = None) -> Embeddings:
        """Open the artifact at `uri`.

        Args:
            uri: its folder.
            model_fingerprint: the model they must be of; any if None.

        Raises:
            ArtifactError: no finished embeddings there, or embeddings of another model.
            InputError: there is no row in them.
        """
        folder = Folder(uri)
        manifest = read_manifest(folder, kind="embeddings")
        model = manifest.input("model")
        if model_fingerprint is not None and model.fingerprint != model_fingerprint:
            raise ArtifactError(
                f"{uri}: embeddings of the model {model.uri} ({model.fingerprint}); "
                f"the model asked for is {model_fingerprint}"
            )
        if not manifest.rows:
            raise InputError(f"{uri}: the embeddings have no row; an index needs at least one")
        if (held := sum(shard.rows for shard in manifest.shards)) != manifest.rows:
            raise ArtifactError(f"{uri}: shards of {held} rows; the manifest says {manifest.rows}")
        return cls(folder, manifest)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.manifest.rows

    @property
    def fingerprint(self) -> str:
        """The artifact's fingerprint."""
        return self.manifest.fingerprint

    @property
    def metric(self) -> str:
        """The similarity its model was made for."""
        return str(self.manifest.details.get("similarity_fn_name") or _DEFAULT_METRIC)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The embeddings and the model, as an index names them."""
        own = Input(kind="embeddings", uri=self.folder.uri, fingerprint=self.manifest.fingerprint)
        return own, self.manifest.input("model")

    @property
    def encoding(self) -> dict[str, Any]:
        """Settings of the job that encoded the texts."""
        return dict(self.manifest.settings)

    def tables(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[Ids, Floats]]:
        """Yield ids and vectors [N, D] of rows `start` to `stop`, shard by shard in corpus order.

        Raises:
            ArtifactError: a shard is damaged, or its vectors are not of one width.
            InputError: a vector holds NaN or infinite values; its id is named.
        """
        width: int | None = None
        for ids, table, where in self._read(start, stop):
            vectors = _vectors(table, where, self.manifest.details)
            if width is not None and vectors.shape[1] != width:
                raise ArtifactError(
                    f"{where}: vectors {vectors.shape[1]} wide; the shards before have {width}"
                )
            width = vectors.shape[1]
            _refuse_non_finite(ids, vectors, where)
            yield ids, vectors

    def _read(self, start: int, stop: int | None) -> Iterator[tuple[Ids, pa.Table, str]]:
        """Yield ids and columns of the shards that hold rows `start` to `stop`, cut to these."""
        first, end = 0, self.manifest.rows if stop is None else stop
        for shard in self.manifest.shards:
            last = first + shard.rows
            if first < end and last > start:
                table = self._table(shard)
                table = table.slice(max(0, start - first), min(end, last) - max(start, first))
                ids = pc.cast(table[ID], pa.large_string()).combine_chunks()
                yield ids, table, self.folder.path(shard.file)
            first = last

    def _table(self, shard: Shard) -> pa.Table:
        table = read_table(self.folder, shard)
        if table.num_rows != shard.rows:
            where = self.folder.path(shard.file)
            raise ArtifactError(
                f"{where}: holds {table.num_rows} rows; the manifest says {shard.rows}"
            )
        return table


@dataclass(frozen=True, slots=True)
class SparseEmbeddings(Embeddings):
    """An embeddings artifact of sparse vectors, columns `terms` and `weights`."""

    def tables(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[Ids, Any]]:
        """Yield ids and SciPy rows [N, V] of rows `start` to `stop`, in corpus order.

        Raises:
            ArtifactError: a shard is damaged.
            InputError: dense vectors, a term outside the vocabulary, a weight that is not finite
                or below 0; the id is named.
        """
        width = int(self.manifest.details.get("dimension") or 0)
        for ids, table, where in self._read(start, stop):
            rows = sparse_rows(table, where, width)
            refuse_weights(rows, partial(_named, ids, where))
            yield ids, rows


def _named(ids: Ids, where: str, row: int) -> str:
    return f"{where}: id {ids[row].as_py()!r}"


def open_source(uri: str, kind: str, model_fingerprint: str | None = None) -> Embeddings:
    """Open embeddings as an index of a kind reads them; arguments as for `Embeddings.open`.

    Raises:
        InputError: unknown kind, or one that is built from texts.
    """
    reads = pick_kind(kind).reads
    if reads == "text":
        raise InputError(f"kind {kind!r} is built from the texts of a corpus, not from embeddings")
    opened = SparseEmbeddings if reads == "sparse" else Embeddings
    return opened.open(uri, model_fingerprint)


def sparse_rows(table: pa.Table, where: str, width: int) -> Any:
    """Return the columns `terms` and `weights` as SciPy rows [N, width].

    Args:
        table: the columns.
        where: what the table is, for messages.
        width: terms of the vocabulary.

    Raises:
        ArtifactError: nulls, or not as many weights as terms.
        InputError: no such columns, or a term outside the vocabulary.
    """
    if TERMS not in table.column_names or WEIGHTS not in table.column_names:
        kind = "dense" if VECTOR in table.column_names else "no"
        raise InputError(f"{where}: holds {kind} vectors; this index kind needs sparse ones")
    terms, weights = (table[name].combine_chunks() for name in (TERMS, WEIGHTS))
    if terms.null_count or weights.null_count:
        raise ArtifactError(f"{where}: columns {TERMS!r} and {WEIGHTS!r} must hold no null")
    lengths = pc.list_value_length(terms)
    if not pc.all(pc.equal(lengths, pc.list_value_length(weights)), min_count=0).as_py():
        raise ArtifactError(f"{where}: a row has not as many weights as terms")
    places = terms.flatten().to_numpy(zero_copy_only=False)
    if len(places) and not 0 <= places.min() <= places.max() < width:
        raise InputError(
            f"{where}: term {places.min()} or {places.max()}: the vocabulary has {width} terms"
        )
    starts = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))])
    values = weights.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    rows = sparse.csr_array((values, places, starts), shape=(table.num_rows, width))
    rows.sum_duplicates()
    return rows


def _vectors(table: pa.Table, where: str, details: dict[str, Any]) -> Floats:
    """Return a shard's vectors as floats; those in int8 or uint8 by the ranges in the manifest."""
    if VECTOR not in table.column_names:
        kind = "sparse" if TERMS in table.column_names else "no"
        raise InputError(f"{where}: holds {kind} vectors; this index kind needs dense ones")
    column = table[VECTOR].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if not pa.types.is_fixed_size_list(column.type) or column.null_count:
        raise ArtifactError(f"{where}: column {VECTOR!r} must hold lists of one size and no null")
    flat: npt.NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    stored = flat.reshape(-1, column.type.list_size)
    if (lists := details.get("ranges")) is not None:
        ranges = Ranges.from_lists(lists)
        width = stored.shape[1]
        return dequantize(stored, details["precision"], dimension=width, ranges=ranges)
    if not pa.types.is_floating(column.type.value_type):
        raise InputError(
            f"{where}: vectors of {column.type.value_type}; an index is built from float vectors"
        )
    return stored.astype(np.float32, copy=False)


def _refuse_non_finite(ids: Ids, vectors: Floats, where: str) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(
            f"{where}: {len(bad)} vector(s) hold NaN or infinite values; "
            f"the first is of id {ids[int(bad[0])].as_py()!r}"
        )
