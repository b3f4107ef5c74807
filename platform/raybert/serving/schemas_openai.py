"""OpenAI's embeddings dialect: requests and answers, word for word; unknown keys are ignored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

Positive = Annotated[StrictInt, Field(ge=1)]
TokenId = Annotated[StrictInt, Field(ge=0)]


class EmbeddingsRequest(BaseModel):
    """Body of `POST /v1/embeddings`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    input: StrictStr | list[StrictStr] | list[TokenId] | list[list[TokenId]]
    """A text, texts, the token ids of a text, or of several."""
    model: StrictStr
    """Served model name."""
    encoding_format: Literal["float", "base64"] = "float"
    """Numbers, or base64 of little-endian float32."""
    dimensions: Positive | None = None
    """Keep this many leading dimensions, normalised again."""
    user: StrictStr | None = None
    """Ignored."""
    task: StrictStr | None = None
    """Beyond OpenAI: the model's prompt name to apply, `query` and `document` among them."""
    truncate: bool | None = None
    """Beyond OpenAI: cut over-long texts instead of refusing them."""


class Usage(BaseModel):
    """Tokens of a request, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """One vector, as numbers or as base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(BaseModel):
    """Answer of `POST /v1/embeddings`."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class ModelEntry(BaseModel):
    """One served model; what lies beyond OpenAI's four keys says what it can do."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "raybert"
    capabilities: list[str]
    dimension: int
    max_tokens: int
    fingerprint: str


class ModelsAnswer(BaseModel):
    """Answer of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


class ErrorDetail(BaseModel):
    """What is wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """Every error body of the OpenAI routes and of our own."""

    error: ErrorDetail
