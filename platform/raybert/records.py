"""What flows between rooms: column names and small frozen records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ID = "id"
"""Column: the row's stable string id, unique in its artifact."""
TEXT = "text"
"""Column: the text itself."""
VECTOR = "vector"
"""Column: fixed_size_list, the dense embedding."""
CONTENT = "content"
"""Column: hash of (text, prompt, model), by which an unchanged row is recognised."""
TERMS = "terms"
"""Column: list<int32>, the active vocabulary ids of a sparse embedding."""
WEIGHTS = "weights"
"""Column: list<float32>, the weights of `TERMS`."""


@dataclass(frozen=True, slots=True)
class TokenizedTexts:
    """Ragged token ids of texts, never padded: what `pre` hands to `core`.

    Args:
        input_ids: one list of token ids a text, special tokens included.
        token_type_ids: segment ids in the same shape, where the model has segments.
        prompt_length: number of leading tokens that belong to the prompt (pooling may skip them).
        task: "query" or "document", where it decides how a model reads the texts.
    """

    input_ids: Sequence[Sequence[int]]
    token_type_ids: Sequence[Sequence[int]] | None = None
    prompt_length: int = 0
    task: str | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self.input_ids]

    def take(self, rows: Sequence[int]) -> TokenizedTexts:
        """Return the texts at `rows`, in that order."""
        types = self.token_type_ids
        return TokenizedTexts(
            [self.input_ids[row] for row in rows],
            None if types is None else [types[row] for row in rows],
            self.prompt_length,
            self.task,
        )


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The bytes of image files: what stands where texts have tokens."""

    files: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True, slots=True)
class BatchUsage:
    """What a forward pass cost: tokens that carried text, and tokens computed with padding."""

    tokens: int = 0
    computed_tokens: int = 0

    def __add__(self, other: BatchUsage) -> BatchUsage:
        return BatchUsage(self.tokens + other.tokens, self.computed_tokens + other.computed_tokens)

    @property
    def padding_share(self) -> float:
        """Share of the computed tokens that was padding, 0 to 1."""
        return 1 - self.tokens / self.computed_tokens if self.computed_tokens else 0.0


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved item: its id and its score (higher is better)."""

    id: str
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The hits of one query, best first."""

    query_id: str
    hits: tuple[Hit, ...]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)
