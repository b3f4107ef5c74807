from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from raybert.errors import ArtifactError, InputError, SettingsError
from raybert.evaluation import Evaluator
from raybert.training import Job, make_training, train
from raybert.training.state import Training

MATRYOSHKA = {
    "loss": "MultipleNegativesRankingLoss",
    "matryoshka_dims": [32, 16, 8],
    "n_dims_per_step": 2,
}
SCHEDULE = {"max_steps": 12, "learning_rate": 1e-3}


class Scripted(Evaluator):
    """Gives the numbers it was given, one a call."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = list(values)
        self.primary_metric = "value"

    def __call__(self, encoder: Any) -> dict[str, float]:
        return {"value": self.values.pop(0)}


class StoppedError(Exception):
    """Stands for a process that dies."""


def keep(curve: list[float], values: Mapping[str, float], step: int) -> None:
    curve.append(values["loss"])


def weights(training: Training) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in training.encoder.model.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch": {"size": 16, "accumulate": 2}},
        {"batch": {"size": 32, "cached_rows": 8}},
        {"loss": {"name": "MatryoshkaLoss", "settings": MATRYOSHKA}},
        {"lora": {"rank": 4, "dropout": 0.1, "layers": ["query", "value"]}},
    ],
    ids=["plain", "accumulated", "cached", "matryoshka", "lora"],
)
def test_a_stopped_training_goes_on_to_the_very_same_weights(
    make_job: Callable[..., Job], tmp_path: Path, changes: dict[str, Any]
) -> None:
    given = {
        "dropout": 0.1,
        "schedule": SCHEDULE,
        "saving": {"every": 4, "log_every": 1},
        "out": str(tmp_path / "a"),
        **changes,
    }
    whole = make_training(make_job(**given))
    first = weights(whole)
    train(whole)
    assert not same(first, weights(whole))

    def die(values: Any, step: int) -> None:
        if step == 7:
            raise StoppedError

    given["out"] = str(tmp_path / "b")
    stopped = make_training(make_job(**given))
    stopped.log = die
    with pytest.raises(StoppedError):
        train(stopped)
    assert stopped.checkpoints.steps == [4]
    steps: list[int] = []
    resumed = make_training(make_job(**given))
    resumed.log = lambda values, step: steps.append(step)
    train(resumed)
    assert steps == list(range(5, 13))
    assert same(weights(resumed), weights(whole))

    again = make_training(make_job(**given))
    assert train(again).step == 12
    assert same(weights(again), weights(whole))


@pytest.mark.parametrize(
    ("scale", "tolerance"),
    [({"gradient_checkpointing": True}, 0.0), ({"compile": "aot_eager"}, 1e-5)],
    ids=["gradient_checkpointing", "compile"],
)
def test_how_it_is_computed_changes_no_number(
    make_job: Callable[..., Job], tmp_path: Path, scale: dict[str, Any], tolerance: float
) -> None:
    found = []
    for name, more in (("plain", {}), ("other", scale)):
        training = make_training(
            make_job(
                dropout=0.1 if tolerance == 0 else 0.0,
                out=str(tmp_path / name),
                schedule={"max_steps": 3, "learning_rate": 1e-3},
                scale={"device": "cpu", **more},
            )
        )
        train(training)
        found.append(list(weights(training).values()))
    for known, other in zip(*found, strict=True):
        torch.testing.assert_close(other, known, rtol=0, atol=tolerance)


def test_a_checkpoint_of_another_training_is_refused(make_job: Callable[..., Job]) -> None:
    train(make_training(make_job(schedule={"max_steps": 2})))
    with pytest.raises(ArtifactError, match="another model, data or settings"):
        train(make_training(make_job(schedule={"max_steps": 3})))


def test_accumulated_batches_are_one_large_one(make_job: Callable[..., Job]) -> None:
    columns = ("anchor", "other", "score")
    found = []
    for out, batch in (("a", {"size": 32}), ("b", {"size": 8, "accumulate": 4})):
        job = make_job(
            columns=columns,
            out=f"{make_job().settings.out}-{out}",
            loss={"name": "CosineSimilarityLoss"},
            batch={"sampler": "batch_sampler", **batch},
            schedule={"max_steps": 5, "learning_rate": 1e-3},
        )
        curve: list[float] = []
        training = make_training(job)
        training.log = partial(keep, curve)
        train(training)
        found.append((curve, weights(training)))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-6)
    for name, weight in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], weight, rtol=0, atol=2e-5)


def test_a_loss_that_is_not_finite_stops_with_step_rows_and_checkpoint(
    make_job: Callable[..., Job],
) -> None:
    training = make_training(
        make_job(schedule=SCHEDULE, saving={"every": 2, "log_every": 1}, batch={"size": 4})
    )

    def spoil(values: Any, step: int) -> None:
        if step == 3:
            torch.nn.init.constant_(next(training.encoder.model.parameters()), torch.nan)

    training.log = spoil
    rows = training.batches.sampler.plan(0)[3]
    with pytest.raises(InputError) as told:
        train(training)
    message = str(told.value)
    assert message.startswith("step 4: loss is nan; rows of the batch: ")
    assert ", ".join(map(str, rows)) in message
    assert message.endswith(f"last good checkpoint: {training.checkpoints.path(2)}")


def test_the_best_model_is_kept_and_patience_ends(make_job: Callable[..., Job]) -> None:
    training = make_training(
        make_job(schedule=SCHEDULE, evaluation={"every": 2, "patience": 2}, saving={"every": 100})
    )
    training.evaluator = Scripted(0.9, 0.1, 0.5, 0.4, 0.3)
    logged: list[tuple[int, float]] = []
    at_best: dict[str, Tensor] = {}

    def log(values: Any, step: int) -> None:
        if "value" in values:
            logged.append((step, values["value"]))
            if step == 4:
                at_best.update(weights(training))

    training.log = log
    progress = train(training)
    assert logged == [(0, 0.9), (2, 0.1), (4, 0.5), (6, 0.4), (8, 0.3)]
    assert (progress.step, progress.best_step) == (8, 4)
    assert progress.before["value"] == 0.9
    assert progress.metrics["value"] == 0.5
    assert same(at_best, weights(training))
    assert not training.encoder.model.training


def test_less_can_be_better_and_a_metric_must_be_measured(make_job: Callable[..., Job]) -> None:
    evaluation = {"every": 4, "greater_is_better": False, "metric": "value"}
    training = make_training(make_job(schedule=SCHEDULE, evaluation=evaluation))
    training.evaluator = Scripted(9, 3, 1, 2)
    assert train(training).best_step == 8
    training = make_training(
        make_job(schedule=SCHEDULE, evaluation={"metric": "ndcg"}, out="unused", seed=1)
    )
    training.evaluator = Scripted(1)
    with pytest.raises(SettingsError, match="'ndcg': measured are value"):
        train(training)


def test_the_log_has_loss_rate_norm_speed_and_padding(make_job: Callable[..., Job]) -> None:
    training = make_training(
        make_job(schedule={"max_steps": 4, "learning_rate": 1e-3}, saving={"log_every": 2})
    )
    logged: dict[int, dict[str, float]] = {}
    training.log = lambda values, step: logged.update({step: dict(values)})
    train(training)
    assert list(logged) == [2, 4]
    # steps 0 and 1 of 4 with one of warm-up: rates 0 and 1e-3
    assert logged[2]["learning_rate"] == pytest.approx(0.5e-3)
    assert {"loss", "grad_norm", "pairs_per_second", "tokens_per_second"} <= set(logged[4])
    assert 0 <= logged[4]["padding_share"] < 0.4


def test_a_full_disk_at_a_checkpoint_is_one_line_and_more_space_ends_it(
    make_job: Callable[..., Job], small_disk: Path
) -> None:
    given = {"out": str(small_disk / "model"), "schedule": {"max_steps": 3}, "saving": {"every": 1}}
    with pytest.raises(
        ArtifactError, match=r"step-000000002\.pt: cannot be written: No space left"
    ):
        train(make_training(make_job(**given)))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    resumed = make_training(make_job(**given))
    assert resumed.checkpoints.steps == [1]
    assert train(resumed).step == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one checkpoint."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
