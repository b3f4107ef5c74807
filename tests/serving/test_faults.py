from __future__ import annotations

import pickle

from raybert.errors import ArtifactError, InputError, OverloadedError
from raybert.serving.faults import FaultKind, RequestError, as_fault


def test_a_fault_survives_the_wire() -> None:
    fault = RequestError(FaultKind.TOO_LONG, "too long", "input", 2.0)
    copy = pickle.loads(pickle.dumps(fault))
    assert (copy.kind, str(copy), copy.param, copy.retry_after_s) == (
        FaultKind.TOO_LONG,
        "too long",
        "input",
        2.0,
    )


def test_errors_become_faults_of_their_kind() -> None:
    overloaded = as_fault(OverloadedError("full", retry_after_s=3.0))
    assert (overloaded.kind, overloaded.retry_after_s) == (FaultKind.OVERLOADED, 3.0)
    assert as_fault(InputError("bad")).kind is FaultKind.INVALID
    assert as_fault(TimeoutError()).kind is FaultKind.DEADLINE
    fault = RequestError(FaultKind.EMPTY, "empty")
    assert as_fault(fault) is fault


def test_what_nobody_foresaw_keeps_its_details_inside() -> None:
    for error in (ValueError("secret"), ArtifactError("secret path")):
        fault = as_fault(error)
        assert fault.kind is FaultKind.INTERNAL
        assert "secret" not in str(fault)
