"""How stages become Ray Serve deployments; `serve/*.py` wire them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator
from ray import serve

from raybert.errors import SettingsError
from raybert.serving.deployments import EmbedStage, RetrieveStage
from raybert.serving.generation import IndexSettings
from raybert.serving.scaling import autoscaling
from raybert.serving.served_model import ModelSettings
from raybert.settings import Settings


class StageSettings(Settings):
    """One deployment: how many replicas, what each may take, how much may wait."""

    replicas: int = 1
    """Copies of this stage; two or more survive the loss of one."""
    max_replicas: int | None = None
    """Copies there may be while work waits; None: never more than `replicas`."""
    tokens_per_replica: int = 4096
    """Tokens, waiting and computed, a copy of a stage with models should have: more make more."""
    upscale_delay_s: float = 10.0
    """Seconds that more copies must be wanted before they are started."""
    downscale_delay_s: float = 300.0
    """Seconds that fewer must be wanted before some are stopped."""
    cpus: float = 1.0
    """CPUs a replica reserves in Ray."""
    gpus: float = 0.0
    """GPUs a replica reserves in Ray."""
    threads: int | None = None
    """Threads torch uses in a replica; None takes all cores of the machine."""
    max_ongoing_requests: int = 256
    """Requests a replica works on at a time; its token batcher needs many to fill batches."""
    max_queued_requests: int = 512
    """Requests that wait for a replica; beyond it 429 at once."""
    surge_percent: int = 100
    """Share of the replicas that a rollout may start before it stops old ones."""

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas {self.max_replicas}: at least replicas {self.replicas}")
        return self

    def options(self, *, counts_tokens: bool) -> dict[str, Any]:
        """Return the options of the Ray Serve deployment.

        Args:
            counts_tokens: the stage tells how many tokens it has in hand.
        """
        scale: dict[str, Any] = {"num_replicas": self.replicas}
        if self.max_replicas is not None:
            scale = {
                "autoscaling_config": autoscaling(
                    (self.replicas, self.max_replicas),
                    (self.upscale_delay_s, self.downscale_delay_s),
                    self.tokens_per_replica if counts_tokens else None,
                )
            }
        return {
            **scale,
            "ray_actor_options": {"num_cpus": self.cpus, "num_gpus": self.gpus},
            "max_ongoing_requests": self.max_ongoing_requests,
            "max_queued_requests": self.max_queued_requests,
            "max_surge_percent": self.surge_percent,
            "backpressure_config": {"status_code": 429, "retry_after_s": 1.0},
        }


def deployed(stage: type[Any], settings: StageSettings) -> Any:
    """Return a stage as a Ray Serve deployment; `.bind(…)` wires it."""
    edge = hasattr(stage, "__serve_build_asgi_app__")
    options = settings.options(counts_tokens=hasattr(stage, "record_autoscaling_stats"))
    return serve.deployment(serve.ingress()(stage) if edge else stage).options(**options)


def embed_stages(
    models: Mapping[str, ModelSettings],
    shared: StageSettings,
    apart: Mapping[str, StageSettings],
) -> list[serve.Application]:
    """Return the encoders' stages: a deployment for each model of `apart`, one for the others.

    Raises:
        SettingsError: a stage is named that no model has.
    """
    for name in apart:
        if name not in models:
            raise SettingsError(f"encoders: no model {name!r}; there are: {', '.join(models)}")
    others = {name: each for name, each in models.items() if name not in apart}
    stages = [
        deployed(EmbedStage, each).options(name=f"EmbedStage-{name}").bind(
            {name: models[name]}, each.threads
        )
        for name, each in apart.items()
    ]  # fmt: skip
    if others:
        stages.append(deployed(EmbedStage, shared).bind(others, shared.threads))
    return stages


class RetrieverSettings(StageSettings):
    """A leg's retriever in deployments of its own."""

    parts: int = Field(1, ge=1)
    """Deployments that its index's shards are shared out among."""


def retrieve_stages(
    indexes: Mapping[str, IndexSettings], apart: Mapping[str, RetrieverSettings]
) -> dict[str, dict[str, list[serve.Application]]]:
    """Return the deployments of the legs that have their own, by index and leg.

    Args:
        indexes: all indexes by served name.
        apart: by `INDEX/LEG`, or by `INDEX` where it has one leg.

    Raises:
        SettingsError: there is no such index or leg.
    """
    stages: dict[str, dict[str, list[serve.Application]]] = {}
    for name, settings in apart.items():
        index, _, leg = name.partition("/")
        legs = indexes[index].legs if index in indexes else {}
        if not leg and len(legs) == 1:
            (leg,) = legs
        if leg not in legs:
            known = [f"{each}/{of}" for each in indexes for of in indexes[each].legs]
            raise SettingsError(f"retrievers: no leg {name!r}; there are: {', '.join(known)}")
        stages.setdefault(index, {})[leg] = [
            deployed(RetrieveStage, settings)
            .options(name=f"RetrieveStage-{index}-{leg}-{part}")
            .bind(legs[leg], part, settings.parts)
            for part in range(settings.parts)
        ]
    return stages
