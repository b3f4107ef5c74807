from __future__ import annotations

import pytest

from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.limits import Limits

LIMITS = Limits(max_items=3, max_chars=5, max_top_k=7)


@pytest.mark.parametrize("count", [2, 3])
def test_items_up_to_the_limit_pass(count: int) -> None:
    LIMITS.check_items(["a"] * count, "input")


@pytest.mark.parametrize(("count", "kind"), [(0, FaultKind.EMPTY), (4, FaultKind.TOO_MANY)])
def test_no_items_and_one_too_many_are_refused(count: int, kind: FaultKind) -> None:
    with pytest.raises(RequestError) as caught:
        LIMITS.check_items(["a"] * count, "input")
    assert caught.value.kind is kind
    assert caught.value.param == "input"


def test_a_refusal_says_the_limit_and_its_value() -> None:
    with pytest.raises(RequestError, match="`texts` has 33 items, more than the limit max_items"):
        LIMITS.check_items(["a"] * 33, "texts")


@pytest.mark.parametrize("text", ["1234", "12345", "äöüß€"])
def test_texts_up_to_the_limit_pass(text: str) -> None:
    LIMITS.check_texts([text], "input")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("123456", FaultKind.TOO_LONG), ("", FaultKind.EMPTY), ("\ud800", FaultKind.INVALID)],
)
def test_too_long_empty_and_no_unicode_are_refused(text: str, kind: FaultKind) -> None:
    with pytest.raises(RequestError) as caught:
        LIMITS.check_texts(["fine", text], "input", allow_empty=False)
    assert caught.value.kind is kind
    assert "item 1" in str(caught.value)


def test_an_empty_text_may_be_allowed() -> None:
    LIMITS.check_texts([""], "documents")


def test_a_number_above_its_limit_is_refused() -> None:
    LIMITS.check_at_most(7, "top_k", "max_top_k")
    with pytest.raises(RequestError, match="`top_k` is 8, above the limit max_top_k of 7"):
        LIMITS.check_at_most(8, "top_k", "max_top_k")
