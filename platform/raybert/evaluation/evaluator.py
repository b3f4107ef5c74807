"""What every evaluator is: judged data inside, an encoder in, named numbers out.

An encoder is anything with the methods of `Embedder`, dense or sparse, so one evaluator serves
both. Names of metrics follow Sentence Transformers: `{name}_{similarity}_{metric}`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

from raybert.errors import InputError
from raybert.evaluation.metrics import Metrics
from raybert.vectors import Vectors, pick_similarity


class Embedder(Protocol):
    """An encoder as evaluators use it: three methods from texts to vectors [B, D]."""

    @property
    def encode(self) -> Callable[..., Any]:
        """Encode texts."""

    @property
    def encode_query(self) -> Callable[..., Any]:
        """Encode queries."""

    @property
    def encode_document(self) -> Callable[..., Any]:
        """Encode documents."""


class Evaluator(ABC):
    """Ground of all evaluators.

    Args:
        name: put before each metric's name; may be empty.
    """

    primary: ClassVar[str] = ""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.primary_metric = self.named(self.primary) if self.primary else ""

    @abstractmethod
    def __call__(self, encoder: Any) -> Metrics:
        """Measure an encoder."""

    def named(self, metric: str) -> str:
        """Return a metric's full name."""
        return f"{self.name}_{metric}" if self.name else metric

    def prefixed(self, metrics: Metrics) -> Metrics:
        """Return metrics under their full names."""
        return {self.named(name): float(value) for name, value in metrics.items()}


def similarities_of(encoder: Any, given: Sequence[str] | None) -> list[str]:
    """Return the similarities to measure by: those given, else the encoder's own.

    Raises:
        InputError: there is no such similarity.
    """
    names = list(given or [getattr(encoder, "similarity_fn_name", None) or "cosine"])
    for name in names:
        pick_similarity(name)
    return names


def same_length(**columns: Sequence[Any]) -> None:
    """Check that columns have as many rows as each other, and any.

    Raises:
        InputError: they have not; the message has their lengths.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"columns need as many rows as each other and at least one: {told}")


def text_chunks(texts: Sequence[str], size: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield (position of the first text, texts) in chunks of `size`."""
    for start in range(0, len(texts), size):
        yield start, texts[start : start + size]


__all__ = ["Embedder", "Evaluator", "Vectors", "same_length", "similarities_of", "text_chunks"]
