"""Rerank dialects: Jina and Cohere v1 on `/v1/rerank`, Cohere v2 on `/v2/rerank`, TEI's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr

Positive = Annotated[StrictInt, Field(ge=1)]


class TextDocument(BaseModel):
    """A document given as an object."""

    text: StrictStr


class RerankRequest(BaseModel):
    """Body of `POST /v1/rerank`."""

    query: StrictStr
    documents: list[StrictStr | TextDocument]
    model: StrictStr | None = None
    top_n: Annotated[StrictInt, Field(ge=0)] | None = None
    return_documents: StrictBool = False
    raw_scores: StrictBool = False

    def texts(self) -> list[str]:
        """Return the documents as texts."""
        return [each if isinstance(each, str) else each.text for each in self.documents]


class RerankedDocument(BaseModel):
    """One document's place and score; its text only when asked for."""

    index: int
    relevance_score: float
    document: TextDocument | None = None


class RerankUsage(BaseModel):
    """Tokens of a request, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class RerankAnswer(BaseModel):
    """Answer of `POST /v1/rerank`, best first; Jina's keys, and Cohere v1's `id` and `meta`."""

    id: str
    object: Literal["list"] = "list"
    model: str
    usage: RerankUsage
    results: list[RerankedDocument]
    meta: dict[str, Any]


class CohereRerankRequest(BaseModel):
    """Body of `POST /v2/rerank`."""

    model: StrictStr
    query: StrictStr
    documents: list[StrictStr]
    top_n: Positive | None = None
    max_tokens_per_doc: Positive | None = None
    priority: StrictInt | None = None


class CohereRerankedDocument(BaseModel):
    """One document's place and score."""

    index: int
    relevance_score: float


class CohereRerankAnswer(BaseModel):
    """Answer of `POST /v2/rerank`, best first."""

    id: str
    results: list[CohereRerankedDocument]
    meta: dict[str, Any]


class TeiRerankRequest(BaseModel):
    """Body of TEI's `POST /rerank`."""

    query: StrictStr
    texts: list[StrictStr]
    truncate: StrictBool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] = "Right"
    raw_scores: StrictBool = False
    return_text: StrictBool = False
    model: StrictStr | None = None


class TeiRank(BaseModel):
    """One text's place and score; its text only when asked for."""

    index: int
    score: float
    text: str | None = None


class JinaError(BaseModel):
    """Error body of `/v1/rerank`: Jina's key and Cohere v1's."""

    detail: str
    message: str


class CohereError(BaseModel):
    """Error body of the Cohere v2 routes."""

    message: str


class TeiError(BaseModel):
    """Error body of the TEI routes."""

    error: str
    error_type: str
