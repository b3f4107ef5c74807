from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from raybert.errors import ArtifactError
from raybert.serving import GatewaySettings, IndexSettings, ModelSettings
from raybert.serving.deployments import EmbedStage, SearchStage, WholeGraph
from raybert.serving.scaling import ByTokens, tokens_in_hand
from raybert.serving.wiring import StageSettings, deployed

Run = Callable[[Awaitable[Any]], Any]


def test_a_stage_is_bounded_and_sheds_with_429() -> None:
    settings = StageSettings(replicas=2, cpus=0.5, max_ongoing_requests=7, max_queued_requests=9)
    options = deployed(EmbedStage, settings)
    assert options.num_replicas == 2
    assert options.max_ongoing_requests == 7
    assert options.max_queued_requests == 9
    assert options.ray_actor_options["num_cpus"] == 0.5


def test_a_stage_with_models_grows_by_tokens_and_another_by_requests() -> None:
    settings = StageSettings(replicas=1, max_replicas=3, tokens_per_replica=1000)
    by_tokens = deployed(EmbedStage, settings)._deployment_config.autoscaling_config
    assert (by_tokens.min_replicas, by_tokens.max_replicas) == (1, 3)
    assert by_tokens.policy.policy_function == "raybert.serving.scaling:ByTokens"
    assert by_tokens.policy.policy_kwargs == {"tokens_per_replica": 1000}
    by_requests = deployed(SearchStage, settings)._deployment_config.autoscaling_config
    assert by_requests.policy.is_default_policy_function()
    with pytest.raises(ValidationError, match="max_replicas 1: at least replicas 2"):
        StageSettings(replicas=2, max_replicas=1)


def test_replicas_are_wanted_for_the_tokens_in_hand() -> None:
    busy = {"a": {"queued_tokens": 900.0, "computing_tokens": 100.0, "batches": 5.0}}
    idle = {"b": {"queued_tokens": 0.0, "computing_tokens": 0.0, "batches": 5.0}}
    assert tokens_in_hand([busy, idle]) == {"tokens_in_hand": 1000.0}
    policy = ByTokens(500)
    context: Any = SimpleNamespace(target_num_replicas=2, aggregated_metrics=None)
    assert policy(context) == (2.0, {}), "none has told yet"
    context.aggregated_metrics = {"tokens_in_hand": {"one": 1000.0, "two": 250.0}}
    assert policy(context) == (2.5, {})


def test_an_index_of_another_model_fails_the_first_health_check(
    run: Run, minilm: Path, index_uri: str
) -> None:
    async def started() -> None:
        graph = WholeGraph(
            GatewaySettings(),
            {"minilm": ModelSettings(path=str(minilm))},
            {},
            {"demo": IndexSettings(legs={"dense": index_uri})},
            threads=1,
        )
        with pytest.raises(ArtifactError, match=r"made by model models/m .* which is not served"):
            await graph.check_health()

    run(started())


def test_a_graph_without_an_index_is_healthy(run: Run, minilm: Path) -> None:
    async def started() -> None:
        models = {"minilm": ModelSettings(path=str(minilm))}
        graph = WholeGraph(GatewaySettings(), models, {}, {}, threads=1)
        await graph.check_health()
        assert graph.searcher is None

    run(started())
