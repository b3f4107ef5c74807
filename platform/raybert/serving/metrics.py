"""Counters of one gateway replica, in Prometheus' text format, joined with the stages' gauges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from raybert.serving.messages import IndexCard, ModelCard, StageTimes
from raybert.serving.stages import Gauges

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536, 300_000)


class Metrics:
    """What one gateway replica counts; its own registry, so that tests and replicas do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "raybert_requests", "Answered requests", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "raybert_request_seconds",
            "Seconds from the request's arrival to its answer",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.running = Gauge(
            "raybert_requests_running", "Requests being worked on", registry=self.registry
        )
        self.stages = Histogram(
            "raybert_stage_seconds",
            "Seconds a request spent in a stage",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.request_tokens = Histogram(
            "raybert_request_tokens",
            "Tokens of a request",
            ("model",),
            buckets=_TOKENS,
            registry=self.registry,
        )
        self.truncated = Counter(
            "raybert_truncated_texts",
            "Texts cut to the model's limit",
            ("model",),
            registry=self.registry,
        )
        self._models = Gauge(
            "raybert_model_info",
            "Served models; always 1",
            ("model", "fingerprint"),
            registry=self.registry,
        )
        self._indexes = Gauge(
            "raybert_index_info",
            "Rows of the served index generations",
            ("index", "generation"),
            registry=self.registry,
        )
        self._model_gauges: dict[str, Gauge] = {}

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def count_texts(self, model: str, tokens: int, truncated: int, times: StageTimes) -> None:
        """Count what a model did for one request."""
        self.request_tokens.labels(model).observe(tokens)
        if truncated:
            self.truncated.labels(model).inc(truncated)
        for stage, milliseconds in times.by_stage().items():
            self.stages.labels(stage).observe(milliseconds / 1e3)

    def count_stages(self, stages_ms: Mapping[str, float]) -> None:
        """Count the stages of one search."""
        for stage, milliseconds in stages_ms.items():
            self.stages.labels(f"search_{stage}").observe(milliseconds / 1e3)

    def exposition(
        self, models: Iterable[ModelCard], indexes: Iterable[IndexCard], gauges: Iterable[Gauges]
    ) -> bytes:
        """Return everything as Prometheus text."""
        self._models.clear()
        self._indexes.clear()
        for model in models:
            self._models.labels(model.name, model.fingerprint).set(1)
        for index in indexes:
            self._indexes.labels(index.name, index.generation).set(index.rows)
        for stage in gauges:
            for name, numbers in stage.items():
                for number, value in numbers.items():
                    self._model_gauge(number).labels(name).set(value)
        return generate_latest(self.registry)

    def _model_gauge(self, number: str) -> Gauge:
        if number not in self._model_gauges:
            self._model_gauges[number] = Gauge(
                f"raybert_batcher_{number}",
                f"Batcher: {number.replace('_', ' ')}",
                ("model",),
                registry=self.registry,
            )
        return self._model_gauges[number]
