from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from raybert.serving import FaultKind, RequestError
from raybert.serving.keys import ApiKey, hash_key
from raybert.serving.rates import Bucket, Rates


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def key(per_minute: int | None) -> ApiKey:
    return ApiKey(name="app", sha256=hash_key("k"), tokens_per_minute=per_minute)


def test_a_bucket_fills_by_the_second_and_never_over(clock: Clock) -> None:
    bucket = Bucket(60, clock)
    bucket.spend(50)
    assert bucket.left == 10
    clock.now = 30
    assert bucket.left == 40
    clock.now = 1000
    assert bucket.left == 60


def test_one_under_at_and_over_the_limit(clock: Clock) -> None:
    for spent, wait in ((59, 0.0), (60, 1.0), (61, 2.0)):
        rates = Rates(clock)
        bucket = rates.admit(key(60))
        assert bucket is not None
        bucket.spend(spent)
        assert bucket.seconds_until_open() == pytest.approx(wait)
        if wait:
            with pytest.raises(RequestError, match="tokens_per_minute of 60") as caught:
                rates.admit(key(60))
            assert caught.value.kind is FaultKind.OVERLOADED
            assert caught.value.retry_after_s == pytest.approx(wait)
            clock.now += wait
        assert rates.admit(key(60)) is bucket


def test_a_key_without_a_rate_has_no_bucket(clock: Clock) -> None:
    assert Rates(clock).admit(key(None)) is None


def test_a_changed_rate_starts_anew(clock: Clock) -> None:
    rates = Rates(clock)
    first = rates.admit(key(10))
    assert first is not None
    first.spend(1000)
    second = rates.admit(key(20))
    assert second is not None
    assert second.left == 20


def test_over_http_each_key_has_its_own(serve_app: Callable[..., TestClient]) -> None:
    keys = [
        {"name": name, "sha256": hash_key(name), "tokens_per_minute": 6} for name in ("one", "two")
    ]
    client = serve_app(access={"keys": keys})
    body = {"model": "small", "input": ["the cat"]}

    def ask(name: str) -> int:
        answer = client.post("/v1/embeddings", json=body, headers={"x-api-key": name})
        if answer.status_code == 429:
            assert 1 <= int(answer.headers["retry-after"]) <= 31
            assert answer.json()["error"]["type"] == "rate_limit_error"
        return answer.status_code

    assert [ask("one") for _ in range(3)] == [200, 200, 429]
    assert ask("two") == 200
    assert client.get("/health").status_code == 200
