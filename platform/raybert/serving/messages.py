"""What flows between the stages of a served graph: every dialect is an adapter onto these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raybert.fusion import Place
from raybert.serving.preparing import Side

Task = Literal["query", "document"]
"""What a text is to its model: chooses the model's own prompt and route."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A served model, as the edge needs to know it.

    Args:
        name: the name requests use.
        capabilities: what it can do: `dense`, `sparse`, `rerank`.
        fingerprint: content hash of the model folder.
        dimension: width of its vectors; 0 where it makes none.
        max_tokens: longest text in tokens, special tokens included.
        labels: scores a pair gets, for a cross-encoder.
        label_names: what those scores are called.
        pooling: how its vectors are pooled.
        dtype: number format it computes in.
        max_batch_tokens: tokens of one forward pass.
        prompts: names of its prompts.
        similarity: name of its similarity function.
        earlier: fingerprints of models this name had before, still answered by fingerprint.
    """

    name: str
    capabilities: frozenset[str]
    fingerprint: str
    dimension: int = 0
    max_tokens: int = 0
    labels: int = 0
    label_names: tuple[str, ...] = ()
    pooling: str = "mean"
    dtype: str = "float32"
    max_batch_tokens: int = 0
    prompts: tuple[str, ...] = ()
    similarity: str = "cosine"
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Milliseconds of one stage: tokenizing, waiting in the queue, computing."""

    tokenize_ms: float = 0.0
    queue_ms: float = 0.0
    compute_ms: float = 0.0

    def by_stage(self) -> dict[str, float]:
        """Return milliseconds by the stage's name, in order."""
        return {
            "tokenize": self.tokenize_ms,
            "queue": self.queue_ms,
            "compute": self.compute_ms,
        }


@dataclass(frozen=True, slots=True)
class EmbedCall:
    """Texts, or token ids, to embed.

    Args:
        model: served name.
        inputs: texts, or lists of token ids of the model's own vocabulary.
        task: apply the model's query or document prompt.
        prompt_name: apply this prompt of the model instead.
        dimensions: keep this many leading dimensions, then normalise.
        normalize: unit length or not; None leaves the vectors as the model gives them.
        truncate: cut over-long texts instead of refusing them.
        side: which end of an over-long text is cut off.
        urgent: queue with the small requests whatever the size.
        fingerprint: the very model that is meant, where the name may have moved on to another.
    """

    model: str
    inputs: Sequence[str] | Sequence[Sequence[int]]
    task: Task | None = None
    prompt_name: str | None = None
    dimensions: int | None = None
    normalize: bool | None = None
    truncate: bool = False
    side: Side = "right"
    urgent: bool = False
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors `[B, D]` in float32, one a text, and what they cost.

    Args:
        tokens: tokens embedded, special tokens included.
        truncated: texts that were cut to the model's limit.
        fingerprint: of the model that made the vectors.
    """

    vectors: NDArray[np.float32]
    tokens: int
    truncated: int
    fingerprint: str
    times: StageTimes = field(default_factory=StageTimes)


@dataclass(frozen=True, slots=True)
class SparseRow:
    """One sparse vector: active vocabulary ids, rising, and their float32 weights."""

    terms: NDArray[np.int32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SparselyEmbedded:
    """Sparse vectors, one a text, and what they cost; as `Embedded`."""

    rows: Sequence[SparseRow]
    tokens: int
    truncated: int
    fingerprint: str
    times: StageTimes = field(default_factory=StageTimes)


@dataclass(frozen=True, slots=True)
class ScoreCall:
    """Texts to score against a query, all in one request.

    Args:
        raw: the model's own scores instead of probabilities.
        truncate: cut over-long pairs instead of refusing them.
    """

    model: str
    query: str
    texts: Sequence[str]
    raw: bool = False
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class Scored:
    """One score a text, in the order of the texts; float32."""

    scores: NDArray[np.float32]
    tokens: int
    truncated: int
    times: StageTimes = field(default_factory=StageTimes)


@dataclass(frozen=True, slots=True)
class ClassifyCall:
    """Texts, or pairs of texts, to classify.

    Args:
        raw: the model's own scores instead of probabilities.
    """

    model: str
    inputs: Sequence[str] | Sequence[tuple[str, str]]
    raw: bool = False
    truncate: bool = True
    side: Side = "right"


@dataclass(frozen=True, slots=True)
class Classified:
    """Scores `[B, L]` in float32, one a label, in the order of the model's labels."""

    scores: NDArray[np.float32]
    tokens: int
    truncated: int
    times: StageTimes = field(default_factory=StageTimes)


@dataclass(frozen=True, slots=True)
class SearchCall:
    """A query against a served index.

    Args:
        index: served name of the index.
        top_k: hits wanted.
        retrievers: legs to ask; None asks every leg of the index.
        fusion: how legs are joined, where there are several.
        rerank: name of the model that orders the candidates; None keeps the retrieval order.
        candidates: hits each leg retrieves before fusion and reranking; None: chosen by `top_k`.
        deadline_ms: answer by then; optional stages that would be late are left out.
        filter: conditions on the documents' columns, see `raybert.index.filters`.
        explain: say which terms of a sparse leg made it find a hit.
    """

    index: str
    query: str
    top_k: int = 10
    retrievers: Sequence[str] | None = None
    fusion: str = "rrf"
    rerank: str | None = None
    candidates: int | None = None
    deadline_ms: float | None = None
    filter: Mapping[str, Any] | None = None
    explain: bool = False


@dataclass(frozen=True, slots=True)
class SharedTerm:
    """A term of both the query and a document, and what it added to the score of its leg."""

    term: str
    score: float


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One answer: id, text and further columns of its document, final score, place in each leg.

    Args:
        terms: by sparse leg the terms that mattered most, if that was asked.
    """

    id: str
    text: str
    score: float
    fields: Mapping[str, Any]
    legs: Mapping[str, Place]
    terms: Mapping[str, Sequence[SharedTerm]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The hits, best first, and how they came about.

    Args:
        generation: fingerprint of the index that answered.
        models: served name of the model behind each leg, and of the reranker.
        stages_ms: milliseconds of each stage, in order.
        degraded: stages left out because they were late or failed, with the reason.
    """

    hits: Sequence[SearchHit]
    index: str
    generation: str
    models: Mapping[str, str]
    tokens: int
    stages_ms: Mapping[str, float]
    degraded: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class IndexCard:
    """A served index, as the edge needs to know it."""

    name: str
    generation: str
    rows: int
    legs: Mapping[str, str]
