"""Counters of the gateway's replicas, in Prometheus' text format, joined with the stages' gauges.

Whichever replica is asked answers for all of them, each under a label of its own: `sum(rate(…))` is
then right whoever answers, and where a replica died and another began at 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.samples import Sample

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

    def counted(self, replica: str = "", gauges: Iterable[Gauges] = ()) -> Counted:
        """Return what was counted here, as another replica can be told it."""
        return Counted(replica, tuple(self.registry.collect()), tuple(gauges))


@dataclass(frozen=True, slots=True)
class Counted:
    """What one gateway replica has counted.

    Args:
        replica: its name; empty where there is but one.
        families: its counters and histograms.
        gauges: of the model stages that live in it.
    """

    replica: str
    families: tuple[Metric, ...]
    gauges: tuple[Gauges, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that `/metrics` says.

    Args:
        replicas: what each gateway replica has counted.
        models: what is served.
        indexes: what is served.
        gauges: each model's batcher counters.
    """

    replicas: Iterable[Counted]
    models: Iterable[ModelCard]
    indexes: Iterable[IndexCard]
    gauges: Gauges

    def text(self) -> bytes:
        """Return it as Prometheus text."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Yield every family once, as a registry does."""
        joined: dict[str, Metric] = {}
        for replica in self.replicas:
            for family in replica.families:
                into = joined.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                into.samples += [_labelled(each, replica.replica) for each in family.samples]
        yield from joined.values()
        yield from self._served()
        for number in sorted({name for numbers in self.gauges.values() for name in numbers}):
            title = f"Batcher: {number.replace('_', ' ')}"
            gauge = GaugeMetricFamily(f"raybert_batcher_{number}", title, labels=["model"])
            for model, numbers in self.gauges.items():
                gauge.add_metric([model], numbers.get(number, 0.0))
            yield gauge

    def _served(self) -> Iterator[Metric]:
        models = GaugeMetricFamily(
            "raybert_model_info", "Served models; always 1", labels=["model", "fingerprint"]
        )
        for model in self.models:
            models.add_metric([model.name, model.fingerprint], 1)
        indexes = GaugeMetricFamily(
            "raybert_index_info",
            "Rows of the served index generations",
            labels=["index", "generation"],
        )
        for index in self.indexes:
            indexes.add_metric([index.name, index.generation], index.rows)
        yield from (models, indexes)


def _labelled(sample: Sample, replica: str) -> Sample:
    if not replica:
        return sample
    return sample._replace(labels={**sample.labels, "replica": replica})
