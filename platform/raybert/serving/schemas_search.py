"""Our own search dialect: `POST /v1/search`; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

Positive = Annotated[StrictInt, Field(ge=1)]


class SearchRequest(BaseModel):
    """Body of `POST /v1/search`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    query: Annotated[StrictStr, Field(min_length=1)]
    """The question."""
    index: StrictStr | None = None
    """Served index; may be left out where only one is served."""
    top_k: Positive = 10
    """Hits wanted."""
    retrievers: Annotated[list[StrictStr], Field(min_length=1)] | None = None
    """Legs to ask; left out: every leg of the index."""
    fusion: Literal["rrf", "weighted"] = "rrf"
    """How several legs are joined: reciprocal rank (k = 60), or normalised scores."""
    rerank: StrictBool | StrictStr = False
    """Name of the model that orders the candidates; true takes the server's."""
    candidates: Positive | None = None
    """Hits each leg retrieves before fusion and reranking."""
    filter: dict[StrictStr, Any] | None = None
    """Conditions on document columns: `{"year": {"gte": 2000}, "or": [{…}, {…}]}`."""
    explain: StrictBool = False
    """Add rank and score per leg, milliseconds per stage, model and index generation."""
    deadline_ms: Annotated[float, Field(gt=0, strict=False)] | None = None
    """Milliseconds to answer in; a late rerank is left out and the answer says so."""


class LegPlace(BaseModel):
    """Where one leg put a hit: rank from 1, and the leg's own score."""

    rank: int
    score: float


class TermBody(BaseModel):
    """A term that the query and a hit share, and what it added to its leg's score."""

    term: str
    score: float


class SearchHitBody(BaseModel):
    """One hit; `legs` and, of sparse legs, the `terms` that mattered only when explained."""

    id: str
    text: str
    score: float
    fields: dict[str, Any]
    legs: dict[str, LegPlace] | None = None
    terms: dict[str, list[TermBody]] | None = None


class Explanation(BaseModel):
    """How an answer came about."""

    generation: str
    models: dict[str, str]
    tokens: int
    stages_ms: dict[str, float]


class SearchAnswerBody(BaseModel):
    """Answer of `POST /v1/search`, best hit first; `degraded` names stages that were left out."""

    index: str
    hits: list[SearchHitBody]
    degraded: dict[str, str]
    explain: Explanation | None = None


class IndexEntry(BaseModel):
    """One served index: its legs name the model behind each."""

    id: str
    object: Literal["index"] = "index"
    generation: str
    rows: int
    legs: dict[str, str]


class IndexesAnswer(BaseModel):
    """Answer of `GET /v1/indexes`."""

    object: Literal["list"] = "list"
    data: list[IndexEntry]
