"""The dialect of text-embeddings-inference (TEI): requests and answers; unknown keys ignored.

`model` goes beyond TEI, which serves one model: left out, it is the first that can do the task.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr

TokenId = Annotated[StrictInt, Field(ge=0)]
Texts = StrictStr | list[StrictStr]
Direction = Literal["left", "right", "Left", "Right"]


class TeiRequest(BaseModel):
    """What every request to a model may say."""

    truncate: StrictBool | None = None
    """Cut over-long texts; left out means yes."""
    truncation_direction: Direction = "Right"
    model: StrictStr | None = None

    @property
    def cuts(self) -> bool:
        """Whether over-long texts are cut."""
        return self.truncate is not False

    @property
    def side(self) -> Literal["left", "right"]:
        """Which end of an over-long text is cut off."""
        return "left" if self.truncation_direction.lower() == "left" else "right"


class TeiEmbedRequest(TeiRequest):
    """Body of `POST /embed`."""

    inputs: StrictStr | list[StrictStr] | list[TokenId] | list[list[TokenId]]
    normalize: StrictBool = True
    dimensions: StrictInt | None = None
    prompt_name: StrictStr | None = None


class TeiEmbedSparseRequest(TeiRequest):
    """Body of `POST /embed_sparse`."""

    inputs: StrictStr | list[StrictStr] | list[TokenId] | list[list[TokenId]]
    prompt_name: StrictStr | None = None


class TeiSparseValue(BaseModel):
    """One active dimension of a sparse vector."""

    index: int
    value: float


class TeiPredictRequest(TeiRequest):
    """Body of `POST /predict`: a text, a pair, or a list of either, each in a list of its own."""

    inputs: StrictStr | list[StrictStr] | list[list[StrictStr]]
    raw_scores: StrictBool = False


class TeiPrediction(BaseModel):
    """One label and its score."""

    score: float
    label: str


class TeiSimilarityInputs(BaseModel):
    """A sentence and those it is compared with."""

    source_sentence: StrictStr
    sentences: list[StrictStr]


class TeiSimilarityParameters(BaseModel):
    """How the sentences are embedded."""

    truncate: StrictBool | None = None
    truncation_direction: Direction = "Right"
    prompt_name: StrictStr | None = None


class TeiSimilarityRequest(BaseModel):
    """Body of `POST /similarity`."""

    inputs: TeiSimilarityInputs
    parameters: TeiSimilarityParameters | None = None
    model: StrictStr | None = None


class TeiTokenizeRequest(BaseModel):
    """Body of `POST /tokenize`."""

    inputs: Texts
    add_special_tokens: StrictBool = True
    prompt_name: StrictStr | None = None
    model: StrictStr | None = None


class TeiToken(BaseModel):
    """One token; special tokens have no place in the text."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TeiDecodeRequest(BaseModel):
    """Body of `POST /decode`."""

    ids: list[TokenId] | list[list[TokenId]]
    skip_special_tokens: StrictBool = True
    model: StrictStr | None = None


class TeiInfo(BaseModel):
    """Answer of `GET /info`: the first model, and the limits."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
