"""Quantization of embeddings: one byte or one bit a dimension, with ranges that are stored.

int8 and uint8 need the range of every dimension. A range is always computed over a whole corpus
(`Ranges.of`, or block by block with `Ranges.merge`), written down with the vectors, and given to
`quantize`; it is never taken from the batch at hand, so a vector's bytes do not depend on what
was encoded beside it. Shapes: B rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from raybert.errors import InputError

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
"""The formats a vector may be kept in; the bit-packed ones hold ceil(D / 8) bytes."""

_BUCKETS = 255


@dataclass(frozen=True, slots=True)
class Ranges:
    """Least and greatest value of every dimension: two float32 arrays [D]."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]

    @classmethod
    def of(cls, vectors: Floats) -> Ranges:
        """Return the ranges of `vectors` [B, D], B >= 1.

        Raises:
            InputError: no rows, not two dimensions, or a value that is not finite.
        """
        if vectors.ndim != 2 or not len(vectors):
            raise InputError(f"ranges need rows of vectors, not an array of shape {vectors.shape}")
        low, high = vectors.min(axis=0), vectors.max(axis=0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InputError("ranges need finite vectors: a value is NaN or infinite")
        return cls(low.astype(np.float32), high.astype(np.float32))

    def merge(self, other: Ranges) -> Ranges:
        """Return the ranges of both sets of rows together; the order of merging is no matter."""
        return Ranges(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    @property
    def steps(self) -> npt.NDArray[np.float32]:
        """Width of one of the 255 buckets of every dimension; a constant dimension has 1."""
        steps = (self.high - self.low) / _BUCKETS
        return np.where(steps == 0, np.float32(1), steps)

    def as_lists(self) -> list[list[float]]:
        """Return `[low, high]`, as written to a manifest (float32 survives the round trip)."""
        return [self.low.tolist(), self.high.tolist()]

    @classmethod
    def from_lists(cls, lists: list[list[float]]) -> Ranges:
        """Read what `as_lists` wrote."""
        low, high = (np.asarray(side, dtype=np.float32) for side in lists)
        return cls(low, high)


def quantize(
    vectors: Floats, precision: str, ranges: Ranges | None = None
) -> npt.NDArray[np.generic]:
    """Bring vectors [B, D] to `precision`.

    uint8 is `clip(floor((x - low) / step), 0, 255)`, int8 the same minus 128. Binary sets a bit
    where x > 0, first dimension in the most significant bit, zero padded to whole bytes; `binary`
    is `ubinary` minus 128.

    Args:
        vectors: [B, D] floats, finite.
        precision: one of `PRECISIONS`.
        ranges: of the whole corpus; needed for int8 and uint8.

    Returns:
        [B, D] float32, int8 or uint8, or [B, ceil(D / 8)] int8 or uint8 for the binary ones.

    Raises:
        InputError: unknown precision, ranges missing or of another width, values not finite.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r}: allowed are {', '.join(PRECISIONS)}")
    if not np.isfinite(vectors).all():
        raise InputError(f"{precision} vectors need finite values: one is NaN or infinite")
    if precision == "float32":
        return vectors.astype(np.float32)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else _signed(bits)
    buckets = _buckets(vectors, precision, ranges)
    return buckets if precision == "uint8" else _signed(buckets)


def dequantize(
    stored: npt.NDArray[np.generic],
    precision: str,
    *,
    dimension: int,
    ranges: Ranges | None = None,
) -> npt.NDArray[np.float32]:
    """Return float32 vectors [B, D] for stored ones: the middle of each bucket, or -1 and +1.

    Args:
        stored: what `quantize` returned.
        precision: the precision it was given.
        dimension: D, which bit-packed rows do not tell.
        ranges: the ranges it was given.
    """
    if precision == "float32":
        return stored.astype(np.float32)
    unsigned = stored if precision.startswith("u") else (stored.astype(np.int16) + 128)
    if precision in ("binary", "ubinary"):
        bits = np.unpackbits(unsigned.astype(np.uint8), axis=-1, count=dimension)
        return bits.astype(np.float32) * 2 - 1
    known = _needed(ranges, precision, dimension)
    values: npt.NDArray[np.float32] = unsigned.astype(np.float32) + np.float32(0.5)
    values *= known.steps
    values += known.low
    return values


def _buckets(vectors: Floats, precision: str, ranges: Ranges | None) -> npt.NDArray[np.uint8]:
    known = _needed(ranges, precision, vectors.shape[-1])
    scaled = np.floor((vectors.astype(np.float32) - known.low) / known.steps)
    buckets: npt.NDArray[np.uint8] = np.clip(scaled, 0, _BUCKETS).astype(np.uint8)
    return buckets


def _needed(ranges: Ranges | None, precision: str, dimension: int) -> Ranges:
    if ranges is None:
        raise InputError(f"{precision} needs the corpus's ranges; a batch has none of its own")
    if len(ranges.low) != dimension:
        raise InputError(f"ranges of width {len(ranges.low)} given for vectors {dimension} wide")
    return ranges


def _signed(unsigned: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    return (unsigned.astype(np.int16) - 128).astype(np.int8)
