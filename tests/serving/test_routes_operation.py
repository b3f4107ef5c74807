from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from raybert.serving.metrics import Metrics, Page


def test_health_is_200_without_a_body(client: TestClient) -> None:
    answer = client.get("/health")
    assert (answer.status_code, answer.content) == (200, b"")


def test_health_is_503_while_a_stage_is_not_ready(serve_app: Callable[..., TestClient]) -> None:
    class Starting:
        async def cards(self) -> Any:
            raise ConnectionError("not there yet")

    answer = serve_app(searches=Starting()).get("/health")
    assert answer.status_code == 503
    assert answer.json() == {"error": "unhealthy", "error_type": "Unhealthy"}
    assert answer.headers["retry-after"] == "1"


def test_metrics_count_what_happened(client: TestClient) -> None:
    client.post("/v1/embeddings", json={"model": "small", "input": ["cat", "the dog"]})
    client.post("/v1/embeddings", json={"model": "none", "input": "cat"})
    client.post("/rerank", json={"query": "cat", "texts": ["cat " * 50]})
    client.get("/nowhere")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["raybert_requests_total", ("/v1/embeddings", "200")] == 1
    assert found["raybert_requests_total", ("/v1/embeddings", "404")] == 1
    assert found["raybert_requests_total", ("/rerank", "200")] == 1
    assert found["raybert_requests_total", ("404", "other")] == 1
    assert found["raybert_request_tokens_sum", ("small",)] == 7
    assert found["raybert_truncated_texts_total", ("cross",)] == 1
    assert found["raybert_batcher_tokens", ("small",)] == 7
    assert found["raybert_batcher_queued_tokens", ("small",)] == 0
    assert found["raybert_model_info", ("dense-fingerprint", "small")] == 1
    assert found["raybert_stage_seconds_count", ("compute",)] == 2
    assert found["raybert_request_seconds_count", ("/v1/embeddings",)] == 2


def test_replicas_are_told_apart_and_each_family_stands_once() -> None:
    counted = []
    for replica, requests in (("a", 2), ("b", 3)):
        metrics = Metrics()
        for _ in range(requests):
            metrics.count_request("/embed", 200, 0.01)
        counted.append(metrics.counted(replica))
    text = Page(counted, [], [], {"small": {"rows": 7.0}}).text().decode()
    assert text.count("# TYPE raybert_requests_total counter") == 1
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert {
        sample.labels["replica"]: sample.value
        for sample in families["raybert_requests"].samples
        if sample.name.endswith("_total")
    } == {"a": 2, "b": 3}
    assert families["raybert_batcher_rows"].samples[0].value == 7
