"""From tokens to the columns a shard stores: a dense vector, or terms and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raybert.corpus.encoding import Encoding
from raybert.encoders import DenseEncoder, SparseEncoder, open_encoder
from raybert.errors import ModelError
from raybert.records import TERMS, VECTOR, WEIGHTS, BatchUsage, ImageFiles, TokenizedTexts
from raybert.vectors.quantization import Ranges, quantize


class VectorColumns:
    """Encode tokens into a `vector` column.

    Args:
        encoder: the model.
        encoding: how it is used.
    """

    def __init__(self, encoder: DenseEncoder, encoding: Encoding) -> None:
        self.encoder = encoder
        self.encoding = encoding
        self._ranges = None
        if encoding.ranges is not None:
            self._ranges = Ranges.from_lists([list(side) for side in encoding.ranges])
        width = encoder.get_embedding_dimension()
        self.details: dict[str, Any] = {
            "dimension": min(width, encoding.truncate_dim or width),
            "precision": encoding.precision,
            "normalized": encoding.normalize,
            "similarity_fn_name": encoder.similarity_fn_name,
            "prompt": encoding.prompt,
            "backend": encoding.backend,
        }
        if self._ranges is not None:
            self.details["ranges"] = self._ranges.as_lists()

    def __call__(self, tokens: TokenizedTexts | ImageFiles) -> tuple[pa.Table, BatchUsage]:
        """Return the column, null where a vector is not finite, and what it cost."""
        shaped: dict[str, Any] = {
            "normalize_embeddings": self.encoding.normalize,
            "truncate_dim": self.encoding.truncate_dim,
        }
        if isinstance(tokens, ImageFiles):
            vectors, usage = self.encoder.encode_images(list(tokens.files), **shaped), BatchUsage()
        else:
            vectors, usage = self.encoder.encode_tokens(
                tokens, tokens_per_batch=self.encoding.tokens_per_batch, **shaped
            )
        if self.encoding.calibrating:
            self.details["ranges"] = _ranges_of(vectors)
        return vector_table(vectors, self.encoding.precision, self._ranges), usage


class SparseColumns:
    """Encode tokens into the columns `terms` and `weights`.

    Args:
        encoder: the model.
        encoding: how it is used.

    Raises:
        ModelError: the encoding asks for what only dense vectors have.
    """

    def __init__(self, encoder: SparseEncoder, encoding: Encoding) -> None:
        quantized = encoding.precision != "float32" or encoding.calibrating
        if encoding.normalize or encoding.truncate_dim or quantized:
            raise ModelError(
                f"model {encoding.model}: gives sparse vectors; "
                "--normalize, --truncate-dim and --precision are for dense ones"
            )
        self.encoder = encoder
        self.encoding = encoding
        self.details: dict[str, Any] = {
            "dimension": encoder.get_embedding_dimension(),
            "sparse": True,
            "similarity_fn_name": encoder.similarity_fn_name,
            "prompt": encoding.prompt,
        }

    def __call__(self, tokens: TokenizedTexts | ImageFiles) -> tuple[pa.Table, BatchUsage]:
        """Return both columns, null where a weight is not finite, and what it cost."""
        assert isinstance(tokens, TokenizedTexts)
        rows, usage = self.encoder.encode_tokens(
            tokens,
            tokens_per_batch=self.encoding.tokens_per_batch,
            max_active_dims=self.encoding.max_active_dims,
        )
        rows.sort_indices()
        finite = np.ones(rows.shape[0], bool)
        bad = np.flatnonzero(~np.isfinite(rows.data))
        finite[np.searchsorted(rows.indptr, bad, side="right") - 1] = False
        columns = {
            TERMS: _lists(rows.indptr, rows.indices.astype(np.int32), finite),
            WEIGHTS: _lists(rows.indptr, rows.data.astype(np.float32), finite),
        }
        return pa.table(columns), usage


def open_columns(encoding: Encoding) -> VectorColumns | SparseColumns:
    """Open the model of an encoding, dense or sparse.

    Raises:
        ModelError: it cannot be read, gives no vectors, or reads no images where there are some.
    """
    encoder = open_encoder(
        encoding.model, device=encoding.device, dtype=encoding.dtype, backend=encoding.backend
    )
    if encoding.images and "image" not in encoder.capabilities:
        raise ModelError(f"model {encoding.model}: reads no images, which --image-column holds")
    if isinstance(encoder, DenseEncoder):
        return VectorColumns(encoder, encoding)
    if isinstance(encoder, SparseEncoder):
        return SparseColumns(encoder, encoding)
    kinds = ", ".join(sorted(encoder.capabilities))
    raise ModelError(f"model {encoding.model}: gives no vectors; it is for {kinds}")


def vector_table(
    vectors: npt.NDArray[np.float32], precision: str = "float32", ranges: Ranges | None = None
) -> pa.Table:
    """Return [rows, width] vectors as a `vector` column: null where a number is not finite.

    Args:
        vectors: [rows, width] float32.
        precision: how they are stored.
        ranges: of the whole corpus, for int8 and uint8.
    """
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    if precision in ("float32", "float16"):
        stored = vectors.astype(precision)
    else:
        stored = quantize(np.where(finite[:, None], vectors, 0), precision, ranges)
    flat = pa.array(np.ascontiguousarray(stored).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, stored.shape[1], mask=pa.array(~finite))
    return pa.table({VECTOR: column})


def _ranges_of(vectors: npt.NDArray[np.float32]) -> list[list[float]] | None:
    """Return the ranges of the finite vectors, None where there are none."""
    finite = vectors[np.isfinite(vectors).all(axis=1)]
    return Ranges.of(finite).as_lists() if len(finite) else None


def _lists(
    offsets: npt.NDArray[Any], values: npt.NDArray[Any], finite: npt.NDArray[np.bool_]
) -> pa.Array:
    """Return a list column, null where a row is not finite."""
    starts = pa.array(offsets.astype(np.int32))
    return pa.ListArray.from_arrays(starts, pa.array(values), mask=pa.array(~finite))
