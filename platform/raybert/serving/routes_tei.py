"""Routes in the dialect of text-embeddings-inference (TEI)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from raybert import __version__
from raybert.serving.answers import json_response, time_headers
from raybert.serving.desk import Desk
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.messages import ClassifyCall, EmbedCall, ModelCard
from raybert.serving.schemas_rerank import TeiError
from raybert.serving.schemas_tei import (
    TeiDecodeRequest,
    TeiEmbedRequest,
    TeiEmbedSparseRequest,
    TeiInfo,
    TeiPrediction,
    TeiPredictRequest,
    TeiSimilarityRequest,
    TeiSparseValue,
    TeiToken,
    TeiTokenizeRequest,
)

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": TeiError} for status in (400, 401, 403, 404, 413, 422, 424, 429, 500, 503)
}
_TOKENIZING_THREADS = 2


def tei_routes(desk: Desk) -> APIRouter:
    """Return `/embed`, `/predict`, `/similarity`, `/tokenize`, `/decode` and `/info`.

    `POST /` and `/invocations` are `/embed` too: Hugging Face's client posts to the root.
    """
    router = APIRouter(tags=["TEI"], responses=_ERRORS)

    async def embed(request: TeiEmbedRequest) -> Response:
        """Embed texts or token ids: always a list of vectors."""
        call = EmbedCall(
            model=await _model(desk, request.model, "dense"),
            inputs=_inputs(desk, request.inputs),
            prompt_name=request.prompt_name,
            dimensions=_dimensions(request.dimensions),
            normalize=request.normalize,
            truncate=request.cuts,
            side=request.side,
        )
        found = await desk.embed(call)
        headers = time_headers(found.tokens, found.truncated, found.times)
        return json_response(found.vectors, headers=headers)

    for path in ("/embed", "/", "/invocations"):
        router.add_api_route(
            path, embed, methods=["POST"], responses={200: {"model": list[list[float]]}}
        )

    @router.post("/embed_sparse", responses={200: {"model": list[list[TeiSparseValue]]}})
    async def embed_sparse(request: TeiEmbedSparseRequest) -> Response:
        """Embed texts or token ids by a sparse model: the active dimensions of each."""
        call = EmbedCall(
            model=await _model(desk, request.model, "sparse"),
            inputs=_inputs(desk, request.inputs),
            prompt_name=request.prompt_name,
            truncate=request.cuts,
            side=request.side,
        )
        found = await desk.embed_sparse(call)
        body = [
            [
                {"index": term, "value": weight}
                for term, weight in zip(row.terms.tolist(), row.weights.tolist(), strict=True)
            ]
            for row in found.rows
        ]
        return json_response(body, headers=time_headers(found.tokens, found.truncated, found.times))

    @router.post("/predict", responses={200: {"model": list[TeiPrediction]}})
    async def predict(request: TeiPredictRequest) -> Response:
        """Classify a text or a pair, or a list of them: every label with its score, best first."""
        model = await _model(desk, request.model, "rerank")
        inputs, single = _predicted(desk, request.inputs)
        call = ClassifyCall(model, inputs, request.raw_scores, request.cuts, request.side)
        found = await desk.classify(call)
        names = (await desk.models.card(model)).label_names
        bodies = [_labelled(row, names) for row in found.scores.tolist()]
        headers = time_headers(found.tokens, found.truncated, found.times)
        return json_response(bodies[0] if single else bodies, headers=headers)

    @router.post("/similarity", responses={200: {"model": list[float]}})
    async def similarity(request: TeiSimilarityRequest) -> Response:
        """Compare a sentence with others: one similarity each."""
        sentences = request.inputs.sentences
        desk.limits.check_items(sentences, "inputs.sentences", "max_items_tei")
        texts = [request.inputs.source_sentence, *sentences]
        desk.limits.check_texts(texts, "inputs")
        parameters = request.parameters
        call = EmbedCall(
            model=await _model(desk, request.model, "dense"),
            inputs=texts,
            prompt_name=parameters.prompt_name if parameters else None,
            normalize=True,
            truncate=parameters is None or parameters.truncate is not False,
            side="left" if parameters and parameters.truncation_direction in _LEFT else "right",
        )
        found = await desk.embed(call)
        headers = time_headers(found.tokens, found.truncated, found.times)
        return json_response(found.vectors[1:] @ found.vectors[0], headers=headers)

    @router.post("/tokenize", responses={200: {"model": list[list[TeiToken]]}})
    async def tokenize(request: TeiTokenizeRequest) -> Response:
        """Give the tokens of texts with their places; nothing is cut."""
        texts = _inputs(desk, request.inputs)
        model = await _model(desk, request.model, "dense", "rerank")
        stage = await desk.models.stage(model)
        found = await stage.pieces(model, texts, request.add_special_tokens, request.prompt_name)
        return json_response(found)

    @router.post("/decode", responses={200: {"model": list[str]}})
    async def decode(request: TeiDecodeRequest) -> Response:
        """Give the texts that token ids stand for."""
        desk.limits.check_items(request.ids, "ids", "max_request_ids")
        ids: Any = request.ids if isinstance(request.ids[0], list) else [request.ids]
        model = await _model(desk, request.model, "dense", "rerank")
        stage = await desk.models.stage(model)
        return json_response(await stage.decode(model, ids, request.skip_special_tokens))

    @router.get("/info", responses={200: {"model": TeiInfo}})
    async def info() -> Response:
        """Say what is served, and its limits."""
        return json_response(_info(desk, await desk.models.first("dense", "rerank")))

    return router


_LEFT = ("left", "Left")


async def _model(desk: Desk, name: str | None, *capabilities: str) -> str:
    """Return the model a request names, else the first that can do the task."""
    return name or (await desk.models.first(*capabilities)).name


def _inputs(desk: Desk, given: Any) -> list[Any]:
    """Bring the shapes of `inputs` to a list of texts or a list of token id lists."""
    inputs: list[Any] = [given] if isinstance(given, str) else given
    if inputs and isinstance(inputs[0], int):
        inputs = [inputs]
    desk.limits.check_items(inputs, "inputs", "max_items_tei")
    texts = [each for each in inputs if isinstance(each, str)]
    desk.limits.check_texts(texts, "inputs", allow_empty=False)
    if not texts and not all(inputs):
        raise RequestError(FaultKind.EMPTY, "`inputs` cannot be empty", "inputs")
    return inputs


def _dimensions(dimensions: int | None) -> int | None:
    if dimensions is not None and dimensions < 1:
        message = "`dimensions` should be positive"
        raise RequestError(FaultKind.INVALID, message, "dimensions")
    return dimensions


def _predicted(desk: Desk, given: Any) -> tuple[list[Any], bool]:
    """Bring `inputs` to a list of texts or of pairs; and say whether it was a single one."""
    single = isinstance(given, str) or (bool(given) and isinstance(given[0], str))
    rows: list[list[str]] = [[given]] if isinstance(given, str) else [given] if single else given
    desk.limits.check_items(rows, "inputs", "max_items_tei")
    sizes = {len(row) for row in rows}
    if sizes not in ({1}, {2}):
        message = "`inputs` must hold texts alone or pairs of texts alone"
        raise RequestError(FaultKind.INVALID, message, "inputs")
    desk.limits.check_texts([text for row in rows for text in row], "inputs")
    return [row[0] if len(row) == 1 else (row[0], row[1]) for row in rows], single


def _labelled(scores: Sequence[float], names: Sequence[str]) -> list[dict[str, Any]]:
    labels = names if len(names) == len(scores) else [f"LABEL_{at}" for at in range(len(scores))]
    pairs = zip(scores, labels, strict=True)
    return [
        {"score": score, "label": label}
        for score, label in sorted(pairs, key=lambda pair: -pair[0])
    ]


def _info(desk: Desk, card: ModelCard) -> dict[str, Any]:
    labels = {str(at): name for at, name in enumerate(card.label_names)}
    kind: dict[str, Any] = {"embedding": {"pooling": card.pooling}}
    if "rerank" in card.capabilities:
        mapping = {"id2label": labels, "label2id": {name: int(at) for at, name in labels.items()}}
        kind = {"reranker" if card.labels == 1 else "classifier": mapping}
    return {
        "model_id": card.name,
        "model_sha": card.fingerprint,
        "model_dtype": card.dtype,
        "served_model_name": card.name,
        "model_type": kind,
        "max_concurrent_requests": desk.limits.max_concurrent_requests,
        "max_input_length": card.max_tokens,
        "max_batch_tokens": card.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": desk.limits.max_items_tei,
        "auto_truncate": True,
        "tokenization_workers": _TOKENIZING_THREADS,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }
