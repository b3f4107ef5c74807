"""What a training is made of on one rank, how far it has come, and its way to disk and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from raybert.encoders.base import Encoder
from raybert.evaluation import Evaluator
from raybert.losses import Loss
from raybert.sampling import RankBatches
from raybert.training.checkpoint import Checkpoints, State, random_state, restore_random
from raybert.training.collate import Collate, MixedCollate
from raybert.training.optimizer import Schedule
from raybert.training.ranks import gathered, on_first, rank
from raybert.training.settings import TrainingSettings
from raybert.training.split_weights import is_split, take_moments, take_weights, whole
from raybert.training.step import Step

Log = Callable[[Mapping[str, float], int], None]
"""Takes numbers by name, and the step they belong to."""


@dataclass(slots=True)
class Progress:
    """How far a training has come.

    Args:
        step: optimizer steps done.
        done: whether it has ended.
        before: metrics of the model before the first step.
        metrics: the last measurement.
        best: the best measurement of the trained model, by the metric that decides.
        best_step: the step it was taken at.
        stale: measurements since then.
        history: everything that was logged: name to (step, value), in order.
    """

    step: int = 0
    done: bool = False
    before: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    stale: int = 0
    history: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


@dataclass(slots=True)
class Training:
    """All that a training is made of, on one rank."""

    encoder: Encoder
    loss: Loss
    step: Step
    collate: Collate | MixedCollate
    batches: RankBatches
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    checkpoints: Checkpoints
    settings: TrainingSettings
    evaluator: Evaluator | None = None
    log: Log = lambda values, step: None
    send_log: Callable[[], object] = lambda: None
    progress: Progress = field(default_factory=Progress)
    reopen: Callable[[], Encoder] | None = None

    def record(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers by name, and keep them for the plots."""
        for name, value in values.items():
            self.progress.history.setdefault(name, []).append((step, value))
        self.log(values, step)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained: of the model and of the loss."""
        both = (*self.encoder.model.parameters(), *self.loss.parameters())
        return list(dict.fromkeys(each for each in both if each.requires_grad))


def save(training: Training) -> None:
    """Write a checkpoint: rank 0 does, with the random states of all.

    The log goes out first: steps that are not repeated must not be missing from it.
    """
    training.send_log()
    progress, state = training.progress, _state(training, gathered(random_state()))
    on_first(lambda: training.checkpoints.save(progress.step, state, progress.best_step))


def _state(training: Training, random_states: Sequence[State]) -> dict[str, Any]:
    """Return all that a training needs to go on."""
    return {
        "progress": asdict(training.progress),
        "model": whole(dict(training.encoder.model.state_dict())),
        "loss": training.loss.state_dict(),
        "optimizer": whole(training.optimizer.state_dict()),
        "batches": training.batches.state_dict(),
        "random": list(random_states),
    }


def resume(training: Training) -> None:
    """Go on from the last checkpoint, if there is one."""
    state = training.checkpoints.latest()
    if state is None:
        return
    for name, value in state["progress"].items():
        setattr(training.progress, name, value)
    take_weights(training.encoder.model, state["model"])
    training.loss.load_state_dict(state["loss"])
    take_moments(training.optimizer, state["optimizer"])
    training.batches.load_state_dict(state["batches"])
    restore_random(state["random"], rank(), training.settings.seed + training.progress.step)


def whole_encoder(training: Training) -> Encoder:
    """Return the encoder; where its weights are split, another with the whole ones."""
    encoder = training.encoder
    if training.reopen is None or not is_split(encoder.model):
        return encoder
    weights = whole(dict(encoder.model.state_dict()))
    other = training.reopen()
    other.model.load_state_dict(weights)
    return other


def take_best(training: Training) -> None:
    """Take the weights of the best step, where that is asked for, and whole ones in any case."""
    training.encoder = whole_encoder(training)
    progress, wanted = training.progress, training.settings.evaluation.load_best
    best = progress.best_step
    if wanted and best is not None and best != progress.step:
        training.encoder.model.load_state_dict(training.checkpoints.load(best)["model"])
        progress.metrics = progress.best
    training.encoder.model.eval()
