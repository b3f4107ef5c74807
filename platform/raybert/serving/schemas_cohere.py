"""Cohere's v2 embed dialect: requests and answers; unknown keys are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictInt, StrictStr

Positive = Annotated[StrictInt, Field(ge=1)]
EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]


class CohereEmbedRequest(BaseModel):
    """Body of `POST /v2/embed`."""

    model: StrictStr
    input_type: Literal["search_document", "search_query", "classification", "clustering", "image"]
    texts: list[StrictStr] | None = None
    images: list[Any] | None = None
    inputs: list[Any] | None = None
    embedding_types: Annotated[list[EmbeddingType], Field(min_length=1)] = ["float"]
    output_dimension: Positive | None = None
    truncate: Literal["NONE", "START", "END"] = "END"
    max_tokens: Positive | None = None
    priority: StrictInt | None = None


class CohereEmbeddings(BaseModel):
    """The vectors in each type asked for; base64 is of little-endian float32."""

    float: list[list[float]] | None = None
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class CohereEmbedAnswer(BaseModel):
    """Answer of `POST /v2/embed`."""

    id: str
    response_type: Literal["embeddings_by_type"] = "embeddings_by_type"
    embeddings: CohereEmbeddings
    texts: list[str]
    meta: dict[str, Any]
