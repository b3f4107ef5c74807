"""The training loop, from the first step to the best model; it is the same on every rank.

A step: some batches through model and loss, gradients averaged over the ranks, their length
bounded, the optimizer. In between the model is measured and checkpoints are written; a training
that died goes on from the last one, with the same batches and the same dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from raybert.errors import InputError, SettingsError
from raybert.training.collate import Batch
from raybert.training.gather import world_size
from raybert.training.meter import Meter
from raybert.training.optimizer import set_rate
from raybert.training.ranks import average_gradients, gathered, mean_over_ranks, on_first
from raybert.training.sharded import sharded
from raybert.training.split_weights import number
from raybert.training.state import Progress, Training, resume, save, take_best, whole_encoder

MAIN = "main"
"""Name under which the metric that decides stands in a measurement."""


def train(training: Training) -> Progress:
    """Train to the end, from the beginning or from the last checkpoint.

    Raises:
        InputError: the loss or the gradient is not finite.
    """
    progress, settings, total = training.progress, training.settings, training.schedule.total_steps
    resume(training)
    training.encoder.model.train()
    if progress.step == 0:
        progress.before = _measure(training)
    meter = Meter()
    for group, ends_epoch in _groups(training):
        training.loss.at_step(progress.step, total)
        share = training.schedule(progress.step)
        set_rate(training.optimizer, share)

        terms = _gradients(training, group, meter)
        average_gradients(training.parameters)
        longest = settings.schedule.max_grad_norm or math.inf
        norm = number(nn.utils.clip_grad_norm_(training.parameters, longest))
        _refuse_not_finite(training, group, {**terms, "grad_norm": norm})
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)
        progress.step += 1

        rate = settings.schedule.learning_rate * share
        meter.add({**terms, "grad_norm": norm, "learning_rate": rate})
        progress.done = progress.step == total
        if progress.done or progress.step % settings.saving.log_every == 0:
            training.record(meter.entry(world_size()), progress.step)
        with meter.paused():
            improved = _evaluate(training) if _due(training, ends_epoch) else False
            if progress.done or improved or progress.step % _save_every(training) == 0:
                save(training)
        if progress.done:
            break
    take_best(training)
    return progress


def _groups(training: Training) -> Iterator[tuple[list[Batch], bool]]:
    """Yield the batches of each optimizer step, and whether they end an epoch."""
    size = training.settings.batch.accumulate
    while not training.progress.done:
        left = len(training.batches) - training.batches.sampler.step
        group: list[Batch] = []
        for rows in training.batches:
            group.append(training.collate(rows))
            left -= 1
            if len(group) == size or not left:
                yield group, not left
                group = []


def _gradients(training: Training, group: Sequence[Batch], meter: Meter) -> dict[str, float]:
    """Add up the gradients of some batches; returns the loss and its terms, over all ranks."""
    sums: dict[str, torch.Tensor] = {}
    for batch in group:
        found = training.step(batch)
        (found.loss / len(group)).backward()  # type: ignore[no-untyped-call]
        terms = {f"loss/{name}": term for name, term in found.terms.items()}
        for name, value in {"loss": found.loss, **(terms if len(terms) > 1 else {})}.items():
            sums[name] = sums.get(name, 0) + value.detach() / len(group)
        meter.count(batch, training.step.limits)
    return mean_over_ranks(sums)


def _refuse_not_finite(
    training: Training, group: Sequence[Batch], values: Mapping[str, float]
) -> None:
    """Stop before the weights are spoilt; every rank comes to the same verdict.

    Raises:
        InputError: a number is not finite; with the step, the rows and the last good checkpoint.
    """
    wrong = next((name for name, value in values.items() if not math.isfinite(value)), None)
    if wrong is None:
        return
    rows = [
        row for part in gathered([each.rows for each in group]) for each in part for row in each
    ]
    steps = training.checkpoints.steps
    good = training.checkpoints.path(steps[-1]) if steps else "none yet"
    raise InputError(
        f"step {training.progress.step + 1}: {wrong} is {values[wrong]}; rows of the batch: "
        f"{', '.join(map(str, rows))}; last good checkpoint: {good}"
    )


def _due(training: Training, ends_epoch: bool) -> bool:
    """Say whether it is time to measure."""
    if training.evaluator is None:
        return False
    every = training.settings.evaluation.every
    due = ends_epoch if every is None else training.progress.step % every == 0
    return due or training.progress.done


def _save_every(training: Training) -> int:
    """Return the steps between two checkpoints."""
    return training.settings.saving.every or max(1, training.schedule.total_steps // 10)


def _measure(training: Training) -> dict[str, float]:
    """Measure the model as it is; the ranks share the texts out and come to the same numbers."""
    evaluator = training.evaluator
    if evaluator is None:
        return {}
    encoder = whole_encoder(training)

    def measured() -> dict[str, float]:
        encoder.model.eval()
        metrics = {name: float(value) for name, value in evaluator(sharded(encoder)).items()}
        encoder.model.train()
        name = training.settings.evaluation.metric or evaluator.primary_metric
        if name not in metrics:
            raise SettingsError(f"evaluation.metric {name!r}: measured are {', '.join(metrics)}")
        return {MAIN: metrics[name], **metrics}

    mine = measured()
    metrics = on_first(lambda: mine)
    training.record(
        {name: value for name, value in metrics.items() if name != MAIN}, training.progress.step
    )
    return metrics


def _evaluate(training: Training) -> bool:
    """Measure, and end the training if it no longer helps; returns whether it is the best yet."""
    progress, settings = training.progress, training.settings.evaluation
    progress.metrics = _measure(training)
    sign = 1 if settings.greater_is_better else -1
    improved = not progress.best or sign * progress.metrics[MAIN] > sign * progress.best[MAIN]
    if improved:
        progress.best, progress.best_step, progress.stale = progress.metrics, progress.step, 0
    else:
        progress.stale += 1
    progress.done = progress.done or progress.stale >= (settings.patience or math.inf)
    return improved
