"""Our own dialect of changes: documents of a live index; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

Cell = StrictBool | StrictInt | StrictFloat | StrictStr | list[StrictStr] | None
"""What a document column holds."""


class Document(BaseModel):
    """One document; it replaces the one that has its id."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    id: Annotated[StrictStr, Field(min_length=1, max_length=512)]
    """Stable id."""
    text: Annotated[StrictStr, Field(min_length=1)]
    """Its text, encoded by the index's own model; cut to the model's limit."""
    metadata: dict[StrictStr, Cell] = {}
    """Further columns, to filter by and to answer with; a column keeps the type it first had."""


class UpsertRequest(BaseModel):
    """Body of `POST /v1/indexes/{name}/documents`: all documents are written, or none."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    documents: list[Document]
    """Documents, each id once."""


class UpsertAnswer(BaseModel):
    """Every search that begins after this answer finds the documents."""

    index: str
    upserted: int
    generation: str


class DeleteAnswer(BaseModel):
    """No search that begins after this answer finds the document."""

    index: str
    id: str
    deleted: Literal[True]
    generation: str
