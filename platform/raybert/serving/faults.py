"""What can go wrong with a request, named without any word of HTTP; the edge translates."""

from __future__ import annotations

from enum import StrEnum

from raybert.errors import InputError, OverloadedError, RaybertError


class FaultKind(StrEnum):
    """Kinds of fault a dialect knows a status and a body for."""

    INVALID = "invalid"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    TOO_MANY = "too_many"
    BODY_TOO_LARGE = "body_too_large"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    UNKNOWN_NAME = "unknown_name"
    WRONG_TASK = "wrong_task"
    NO_ROUTE = "no_route"
    WRONG_METHOD = "wrong_method"
    OVERLOADED = "overloaded"
    NOT_READY = "not_ready"
    DEADLINE = "deadline"
    INTERNAL = "internal"


class RequestError(RaybertError):
    """A request cannot be answered.

    Args:
        kind: what is wrong, in the inner vocabulary.
        message: one line: what, where, what is allowed.
        param: the request field at fault, where there is one.
        retry_after_s: seconds after which trying again makes sense, where it does.
    """

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(kind, message, param, retry_after_s)
        self.kind = kind
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


def as_fault(error: BaseException) -> RequestError:
    """Return the fault an error amounts to; what nobody foresaw is `INTERNAL` without details.

    The details of an unforeseen error belong to the server's log, not to the caller.
    """
    if isinstance(error, RequestError):
        return error
    if isinstance(error, OverloadedError):
        return RequestError(
            FaultKind.OVERLOADED, str(error.args[0]), retry_after_s=error.retry_after_s
        )
    if isinstance(error, InputError):
        return RequestError(FaultKind.INVALID, str(error))
    if isinstance(error, TimeoutError):
        return RequestError(FaultKind.DEADLINE, "the deadline passed before the answer was ready")
    return RequestError(FaultKind.INTERNAL, "internal error; the server's log has the details")
