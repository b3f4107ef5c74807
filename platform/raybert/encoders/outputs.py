"""What `encode` takes and hands over: texts in, arrays, tensors or features out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from raybert.errors import InputError
from raybert.records import TokenizedTexts
from raybert.vectors.quantization import Ranges, quantize

if TYPE_CHECKING:
    from raybert.encoders.base import Encoder

Array = np.ndarray[Any, np.dtype[Any]]
Item = TypeVar("Item")


def as_texts(inputs: Any) -> tuple[list[str], bool]:
    """Return the inputs as a list, and whether it was one text.

    Raises:
        InputError: the inputs are neither a text nor a sequence.
    """
    if isinstance(inputs, str):
        return [inputs], True
    if isinstance(inputs, np.ndarray):
        return inputs.tolist(), False
    if not isinstance(inputs, Iterable):
        raise InputError(f"a text or a list of texts is expected, not {type(inputs).__name__}")
    return list(inputs), False


def delivered(
    vectors: Array, single: bool, precision: str, to_numpy: bool, device: torch.device | None
) -> Any:
    """Quantize, and hand over as an array, a tensor on `device`, or a list of tensors."""
    if not len(vectors):
        vectors = np.zeros((0,), dtype=np.float32)
    elif precision != "float32":
        vectors = _quantized(vectors, precision)
    found: Any = vectors[0] if single else vectors
    if device is not None:
        return torch.from_numpy(np.ascontiguousarray(found)).to(device)
    if to_numpy:
        return found
    return torch.from_numpy(found) if single else list(torch.from_numpy(found))


def _quantized(vectors: Array, precision: str) -> Array:
    """Quantize by the ranges of these very vectors, as a single call can do no better."""
    if precision not in ("int8", "uint8"):
        return quantize(vectors, precision)
    if len(vectors) < 2:
        raise InputError(f"precision {precision!r}: one text has no ranges; encode several")
    return quantize(vectors, precision, Ranges.of(vectors))


def features_of(
    encoder: Encoder,
    tokens: TokenizedTexts,
    output: str | None,
    tokens_per_batch: int | None,
    max_texts: int | None,
) -> list[Any]:
    """Return for each text its token embeddings [tokens, D], or all its features.

    Padding is cut off; special tokens stay.

    Raises:
        InputError: the model makes no such feature.
    """
    found: list[Any] = [None] * len(tokens)
    for rows, batch, _ in encoder.batches(tokens, tokens_per_batch, max_texts):
        features = encoder.features(batch)
        if output is not None and output not in features:
            known = ", ".join(sorted(features))
            raise InputError(f"output_value {output!r}: this model gives {known}")
        mask = features["attention_mask"].bool()
        for place, row in enumerate(rows):
            one = {name: _own(value, mask, place) for name, value in features.items()}
            found[row] = one if output is None else one[output]
    return found


def progress(items: Iterable[Item], total: int, *, show: bool) -> Iterator[Item]:
    """Go through `total` batches, with a bar if asked for."""
    if not show:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description="Batches", total=total, console=Console(stderr=True))


def _own(value: Any, mask: torch.Tensor, place: int) -> Any:
    """Return one text's part of a feature, without padding."""
    if not isinstance(value, torch.Tensor):
        return value
    own = value[place]
    return own[mask[place]] if value.ndim > 1 and value.shape[1] == mask.shape[1] else own


def as_pairs(inputs: Sequence[Any]) -> tuple[list[tuple[str, str]], bool]:
    """Return the inputs as a list of pairs, and whether it was one pair.

    Raises:
        InputError: an input is not two texts.
    """
    listed = list(inputs)
    single = len(listed) == 2 and all(isinstance(text, str) for text in listed)
    pairs = [tuple(listed)] if single else [_pair(row, pair) for row, pair in enumerate(listed)]
    return pairs, single


def _pair(row: int, pair: Any) -> tuple[str, str]:
    """Return a pair as a tuple."""
    if isinstance(pair, str) or not isinstance(pair, Iterable) or len(found := tuple(pair)) != 2:
        raise InputError(f"pair {row}: two strings are expected, not {str(pair)[:60]!r}")
    return found
