from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from raybert.errors import SettingsError
from raybert.training.optimizer import Schedule, make_optimizer, set_rate
from raybert.training.settings import ScheduleSettings

KINDS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("steps", "ratio"), [(50, 0.1), (7, 0.25), (1, 0.1), (10, 0.0)])
def test_rates_are_those_of_transformers(kind: str, steps: int, ratio: float) -> None:
    settings = ScheduleSettings(kind=kind, warmup_ratio=ratio)
    schedule = Schedule.of(settings, steps)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    known = transformers.get_scheduler(KINDS[kind], optimizer, schedule.warmup_steps, steps)
    for step in range(steps):
        assert schedule(step) == pytest.approx(known.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        known.step()


def test_groups_by_pattern_and_without_decay_on_vectors() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    model[2].bias.requires_grad_(False)
    settings = ScheduleSettings(
        learning_rate=0.1, weight_decay=0.5, learning_rate_mapping={r"^2\.": 0.7, "weight": 0.2}
    )
    optimizer = make_optimizer(model.named_parameters(), settings)
    found = {
        (group["lr"], group["weight_decay"]): sum(p.numel() for p in group["params"])
        for group in optimizer.param_groups
    }
    assert found == {(0.2, 0.5): 6, (0.1, 0.0): 6, (0.2, 0.0): 3, (0.7, 0.5): 3}
    set_rate(optimizer, 0.5)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.05, 0.1, 0.35]


@pytest.mark.parametrize(
    ("pattern", "message"), [("nothing", "no parameter's name matches"), ("(", "unterminated")]
)
def test_a_pattern_that_cannot_be_is_refused(pattern: str, message: str) -> None:
    settings = ScheduleSettings(learning_rate_mapping={pattern: 1.0})
    with pytest.raises(SettingsError, match=message):
        make_optimizer(nn.Linear(1, 1).named_parameters(), settings)
