from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from raybert.errors import ArtifactError
from raybert.serving import GatewaySettings, IndexSettings, ModelSettings
from raybert.serving.deployments import EmbedStage, StageSettings, WholeGraph, deployed

Run = Callable[[Awaitable[Any]], Any]


def test_a_stage_is_bounded_and_sheds_with_429() -> None:
    settings = StageSettings(replicas=2, cpus=0.5, max_ongoing_requests=7, max_queued_requests=9)
    options = deployed(EmbedStage, settings)
    assert options.num_replicas == 2
    assert options.max_ongoing_requests == 7
    assert options.max_queued_requests == 9
    assert options.ray_actor_options["num_cpus"] == 0.5


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
