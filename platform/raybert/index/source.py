"""The embeddings an index is built from: read shard by shard, checked as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raybert.artifacts import Folder, Input, Manifest, read_manifest, read_table
from raybert.errors import ArtifactError, InputError
from raybert.index.metric import Floats
from raybert.records import ID, TERMS, VECTOR

Ids: TypeAlias = Any
"""An Arrow array of large strings."""
_DEFAULT_METRIC = "cosine"


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
        return cls(folder, manifest)

    @property
    def metric(self) -> str:
        """The similarity its model was made for."""
        return str(self.manifest.details.get("similarity_fn_name") or _DEFAULT_METRIC)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The embeddings and the model, as an index names them."""
        own = Input(kind="embeddings", uri=self.folder.uri, fingerprint=self.manifest.fingerprint)
        return own, self.manifest.input("model")

    def tables(self) -> Iterator[tuple[Ids, Floats]]:
        """Yield ids and vectors [N, D] of every shard, in corpus order.

        Raises:
            ArtifactError: a shard is damaged, or its vectors are not of one width.
            InputError: a vector holds NaN or infinite values; its id is named.
        """
        width: int | None = None
        for shard in self.manifest.shards:
            table = read_table(self.folder, shard)
            where = self.folder.path(shard.file)
            vectors = _vectors(table, where)
            if width is not None and vectors.shape[1] != width:
                raise ArtifactError(
                    f"{where}: vectors {vectors.shape[1]} wide; the shards before have {width}"
                )
            width = vectors.shape[1]
            ids = pc.cast(table[ID], pa.large_string()).combine_chunks()
            _refuse_non_finite(ids, vectors, where)
            yield ids, vectors


def _vectors(table: pa.Table, where: str) -> Floats:
    if VECTOR not in table.column_names:
        kind = "sparse" if TERMS in table.column_names else "no"
        raise InputError(f"{where}: holds {kind} vectors; this index kind needs dense ones")
    column = table[VECTOR].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if not pa.types.is_fixed_size_list(column.type) or column.null_count:
        raise ArtifactError(f"{where}: column {VECTOR!r} must hold lists of one size and no null")
    if not pa.types.is_floating(column.type.value_type):
        raise InputError(
            f"{where}: vectors of {column.type.value_type}; an index is built from float vectors"
        )
    flat: npt.NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32, copy=False).reshape(-1, column.type.list_size)


def _refuse_non_finite(ids: Ids, vectors: Floats, where: str) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(
            f"{where}: {len(bad)} vector(s) hold NaN or infinite values; "
            f"the first is of id {ids[int(bad[0])].as_py()!r}"
        )
