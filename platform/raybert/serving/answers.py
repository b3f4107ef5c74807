"""Answers on the wire: JSON by orjson, faults in the dialect of their route."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from raybert.serving.dialects import dialect_of
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.messages import StageTimes


def json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `body` as JSON; numpy arrays are written as lists."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, headers, media_type="application/json")


def fault_response(path: str, fault: RequestError) -> Response:
    """Return a fault as the dialect of `path` words it."""
    dialect = dialect_of(path)
    headers = {}
    if fault.kind is FaultKind.UNAUTHENTICATED:
        # a browser that opens the console is asked for the key as a password
        headers["www-authenticate"] = 'Basic realm="raybert"' if path == "/" else "Bearer"
    if fault.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(fault.retry_after_s))
    if fault.kind is FaultKind.BODY_TOO_LARGE:
        headers["connection"] = "close"
    return json_response(dialect.body(fault), dialect.status(fault), headers)


def time_headers(tokens: int, truncated: int, times: StageTimes) -> dict[str, str]:
    """Return what a request cost as headers, TEI's names; milliseconds."""
    return {
        "x-compute-tokens": str(tokens),
        "x-truncated-texts": str(truncated),
        "x-tokenization-time": f"{times.tokenize_ms:.1f}",
        "x-queue-time": f"{times.queue_ms:.1f}",
        "x-inference-time": f"{times.compute_ms:.1f}",
    }


def as_base64(vector: NDArray[np.float32]) -> str:
    """Return a vector as base64 of little-endian float32, as OpenAI's client decodes it."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode("ascii")
