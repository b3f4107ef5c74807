from __future__ import annotations

import pytest

from raybert.serving.dialects import COHERE, JINA, OPENAI, TEI, Dialect, dialect_of
from raybert.serving.faults import FaultKind, RequestError


def fault(kind: FaultKind) -> RequestError:
    return RequestError(kind, "what is wrong", "input")


@pytest.mark.parametrize("dialect", [OPENAI, TEI, COHERE, JINA])
@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_kind_has_a_status_and_a_body(dialect: Dialect, kind: FaultKind) -> None:
    assert 400 <= dialect.status(fault(kind)) <= 504
    assert "what is wrong" in str(dialect.body(fault(kind)))


@pytest.mark.parametrize(
    ("dialect", "kind", "status"),
    [
        (OPENAI, FaultKind.TOO_LONG, 400),
        (OPENAI, FaultKind.UNKNOWN_NAME, 404),
        (OPENAI, FaultKind.WRONG_TASK, 400),
        (TEI, FaultKind.EMPTY, 400),
        (TEI, FaultKind.INVALID, 422),
        (TEI, FaultKind.TOO_MANY, 422),
        (TEI, FaultKind.WRONG_TASK, 424),
        (TEI, FaultKind.NOT_READY, 503),
        (COHERE, FaultKind.INVALID, 400),
        (JINA, FaultKind.INVALID, 422),
        *[(each, FaultKind.OVERLOADED, 429) for each in (OPENAI, TEI, COHERE, JINA)],
        *[(each, FaultKind.UNAUTHENTICATED, 401) for each in (OPENAI, TEI, COHERE, JINA)],
        *[(each, FaultKind.BODY_TOO_LARGE, 413) for each in (OPENAI, TEI, COHERE, JINA)],
    ],
)
def test_statuses(dialect: Dialect, kind: FaultKind, status: int) -> None:
    assert dialect.status(fault(kind)) == status


def test_bodies_have_the_keys_their_clients_read() -> None:
    assert OPENAI.body(fault(FaultKind.TOO_LONG)) == {
        "error": {
            "message": "what is wrong",
            "type": "invalid_request_error",
            "param": "input",
            "code": "context_length_exceeded",
        }
    }
    assert OPENAI.body(fault(FaultKind.UNAUTHENTICATED))["error"]["code"] == "invalid_api_key"
    assert TEI.body(fault(FaultKind.INVALID)) == {
        "error": "what is wrong",
        "error_type": "Validation",
    }
    assert TEI.body(fault(FaultKind.OVERLOADED))["error_type"] == "Overloaded"
    assert COHERE.body(fault(FaultKind.INVALID)) == {"message": "what is wrong"}
    assert JINA.body(fault(FaultKind.INVALID))["detail"] == "what is wrong"


def test_the_path_decides() -> None:
    assert dialect_of("/v1/embeddings") is OPENAI
    assert dialect_of("/v1/search") is OPENAI
    assert dialect_of("/v1/rerank") is JINA
    assert dialect_of("/v2/rerank/") is COHERE
    assert dialect_of("/rerank") is TEI
    assert dialect_of("/nowhere") is OPENAI
