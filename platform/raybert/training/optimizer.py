"""AdamW with its parameter groups, and the learning rate over the steps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from raybert.errors import SettingsError
from raybert.training.settings import ScheduleSettings

PEAK = "peak_lr"
"""Key of a parameter group: its highest learning rate."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Share of the highest learning rate at each step.

    Up from 0 over the warm-up, then `linear` `(T - t) / (T - w)`, `cosine`
    `(1 + cos(pi (t - w) / (T - w))) / 2`, or `constant`; t is the step from 0, T the number of
    steps, w that of the warm-up.
    """

    kind: str
    warmup_steps: int
    total_steps: int

    @classmethod
    def of(cls, settings: ScheduleSettings, total_steps: int) -> Schedule:
        """Return the schedule of a training of so many steps."""
        return cls(settings.kind, math.ceil(total_steps * settings.warmup_ratio), total_steps)

    def __call__(self, step: int) -> float:
        """Return the share at optimizer step `step`, from 0."""
        if step < self.warmup_steps:
            return step / max(1, self.warmup_steps)
        if self.kind == "constant":
            return 1.0
        gone = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return max(0.0, (1 + math.cos(math.pi * gone)) / 2 if self.kind == "cosine" else 1 - gone)


def make_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]], settings: ScheduleSettings
) -> torch.optim.AdamW:
    """Return AdamW over named parameters; vectors (biases, norms) do not decay.

    Raises:
        SettingsError: a pattern of `learning_rate_mapping` is no regular expression, or matches
            nothing.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    used: set[str] = set()
    patterns = _compiled(settings.learning_rate_mapping)
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        matched = next((text for text, pattern in patterns.items() if pattern.search(name)), None)
        rate = settings.learning_rate
        if matched is not None:
            used.add(matched)
            rate = settings.learning_rate_mapping[matched]
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    if unused := [text for text in patterns if text not in used]:
        raise SettingsError(f"learning_rate_mapping {unused[0]!r}: no parameter's name matches")
    listed: list[dict[str, Any]] = [
        {"params": params, "lr": rate, PEAK: rate, "weight_decay": decay}
        for (rate, decay), params in groups.items()
    ]
    return torch.optim.AdamW(listed, betas=settings.betas, eps=settings.epsilon, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every group's learning rate to a share of its highest."""
    for group in optimizer.param_groups:
        group["lr"] = group[PEAK] * share


def _compiled(mapping: Mapping[str, float]) -> dict[str, re.Pattern[str]]:
    """Compile the patterns."""
    try:
        return {text: re.compile(text) for text in mapping}
    except re.error as error:
        raise SettingsError(f"learning_rate_mapping: {error}: {error.pattern!r}") from None
