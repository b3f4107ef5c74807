"""How each dialect words a fault: status code and error body, as its own clients expect them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raybert.serving.faults import FaultKind, RequestError

Body = dict[str, Any]

_STATUS: dict[FaultKind, int] = {
    FaultKind.INVALID: 400,
    FaultKind.EMPTY: 400,
    FaultKind.TOO_LONG: 400,
    FaultKind.TOO_MANY: 400,
    FaultKind.BODY_TOO_LARGE: 413,
    FaultKind.UNAUTHENTICATED: 401,
    FaultKind.FORBIDDEN: 403,
    FaultKind.UNKNOWN_NAME: 404,
    FaultKind.WRONG_TASK: 400,
    FaultKind.NO_ROUTE: 404,
    FaultKind.WRONG_METHOD: 405,
    FaultKind.OVERLOADED: 429,
    FaultKind.NOT_READY: 503,
    FaultKind.DEADLINE: 504,
    FaultKind.INTERNAL: 500,
}

_VALIDATION_422 = {
    FaultKind.INVALID: 422,
    FaultKind.TOO_LONG: 422,
    FaultKind.TOO_MANY: 422,
}

_OPENAI_TYPES: dict[FaultKind, str] = {
    FaultKind.UNAUTHENTICATED: "authentication_error",
    FaultKind.FORBIDDEN: "permission_error",
    FaultKind.OVERLOADED: "rate_limit_error",
    FaultKind.NOT_READY: "overloaded",
    FaultKind.DEADLINE: "server_error",
    FaultKind.INTERNAL: "server_error",
}

_OPENAI_CODES: dict[FaultKind, str] = {
    FaultKind.TOO_LONG: "context_length_exceeded",
    FaultKind.UNAUTHENTICATED: "invalid_api_key",
    FaultKind.UNKNOWN_NAME: "model_not_found",
    FaultKind.OVERLOADED: "rate_limit_exceeded",
}

_TEI_TYPES: dict[FaultKind, str] = {
    FaultKind.EMPTY: "Empty",
    FaultKind.OVERLOADED: "Overloaded",
    FaultKind.NOT_READY: "Unhealthy",
    FaultKind.WRONG_TASK: "Backend",
    FaultKind.DEADLINE: "Backend",
    FaultKind.INTERNAL: "Backend",
}


def _openai_body(fault: RequestError) -> Body:
    return {
        "error": {
            "message": str(fault),
            "type": _OPENAI_TYPES.get(fault.kind, "invalid_request_error"),
            "param": fault.param,
            "code": _OPENAI_CODES.get(fault.kind),
        }
    }


def _tei_body(fault: RequestError) -> Body:
    return {"error": str(fault), "error_type": _TEI_TYPES.get(fault.kind, "Validation")}


def _cohere_body(fault: RequestError) -> Body:
    return {"message": str(fault)}


def _jina_body(fault: RequestError) -> Body:
    # `/v1/rerank` is Jina's and Cohere v1's route: the first reads `detail`, the other `message`.
    return {"detail": str(fault), "message": str(fault)}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API's way to say what went wrong.

    Args:
        name: whose API it is.
        body: the error body of a fault.
        statuses: status codes that differ from the usual ones.
    """

    name: str
    body: Callable[[RequestError], Body]
    statuses: dict[FaultKind, int]

    def status(self, fault: RequestError) -> int:
        """Return the status code of a fault."""
        return self.statuses.get(fault.kind, _STATUS[fault.kind])


OPENAI = Dialect("openai", _openai_body, {})
TEI = Dialect("tei", _tei_body, {**_VALIDATION_422, FaultKind.WRONG_TASK: 424})
COHERE = Dialect("cohere", _cohere_body, {})
JINA = Dialect("jina", _jina_body, {**_VALIDATION_422, FaultKind.EMPTY: 422})

_BY_PATH: dict[str, Dialect] = {
    "/v1/rerank": JINA,
    "/v2/rerank": COHERE,
    "/v2/embed": COHERE,
    "/rerank": TEI,
    "/embed": TEI,
    "/invocations": TEI,
    "/embed_sparse": TEI,
    "/predict": TEI,
    "/similarity": TEI,
    "/tokenize": TEI,
    "/decode": TEI,
    "/info": TEI,
    "/health": TEI,
}


def dialect_of(path: str) -> Dialect:
    """Return the dialect a path speaks; ours words faults as OpenAI does."""
    return TEI if path == "/" else _BY_PATH.get(path.rstrip("/"), OPENAI)
