from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raybert.errors import SettingsError
from raybert.serving import Directory, Embedder, ModelSettings, RequestError
from raybert.serving.embed_stages import EmbedStages
from raybert.serving.messages import EmbedCall, ScoreCall
from raybert.serving.served_model import ServedModel
from raybert.serving.wiring import StageSettings, embed_stages

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture
def stages(dense: Any, sparse: Any) -> EmbedStages:
    """A dense and a sparse model, each in a stage of its own."""
    return EmbedStages(
        [Embedder([ServedModel("small", dense)]), Embedder([ServedModel("sparse", sparse)])]
    )


def test_each_model_is_asked_of_its_own_stage(run: Run, stages: EmbedStages, dense: Any) -> None:
    async def asked() -> Any:
        embedded = await stages.embed(EmbedCall("small", ["the cat"]))
        directory = Directory(stages)
        sparsely = await directory.embed_sparse(EmbedCall("sparse", ["cat"]))
        scored = await stages.similarities(ScoreCall("small", "cat", ["cat", "a"]))
        pieces = await stages.pieces("sparse", ["the cat"], False, None)
        return embedded, sparsely, scored, pieces, await stages.gauges(), await directory.cards()

    embedded, sparsely, scored, pieces, gauges, cards = run(asked())
    np.testing.assert_allclose(embedded.vectors, dense.encode(["the cat"]), atol=1e-6)
    assert len(sparsely.rows) == 1
    assert len(scored.scores) == 2
    assert [piece.text for piece in pieces[0]] == ["the", "cat"]
    assert gauges["small"]["rows"] == 4
    assert set(cards) == {"small", "sparse"}


def test_a_model_that_no_stage_serves(run: Run, stages: EmbedStages) -> None:
    with pytest.raises(RequestError, match="not served here; served are: 'small', 'sparse'"):
        run(stages.embed(EmbedCall("none", ["a"])))


def test_encoders_apart_are_deployments_of_their_own(tmp_path: Path) -> None:
    models = {name: ModelSettings(path=str(tmp_path)) for name in ("a", "b", "c")}
    stages = embed_stages(models, StageSettings(), {"b": StageSettings(replicas=3)})
    made = {stage._bound_deployment.name: stage._bound_deployment for stage in stages}
    assert list(made) == ["EmbedStage-b", "EmbedStage"]
    assert made["EmbedStage-b"].num_replicas == 3
    assert list(made["EmbedStage"].init_args[0]) == ["a", "c"]
    with pytest.raises(SettingsError, match="encoders: no model 'd'; there are: a, b, c"):
        embed_stages(models, StageSettings(), {"d": StageSettings()})
