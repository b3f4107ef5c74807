"""How many replicas of a stage there are: as many as the tokens in hand keep busy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from raybert.serving.stages import Gauges

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

_TOKENS = "tokens_in_hand"
_PERIOD_S = 1.0


def tokens_in_hand(gauges: Iterable[Gauges]) -> dict[str, float]:
    """Return what a replica tells Ray Serve: its tokens that wait, and those being computed."""
    numbers = [each for stage in gauges for each in stage.values()]
    return {_TOKENS: sum(each["queued_tokens"] + each["computing_tokens"] for each in numbers)}


class ByTokens:
    """A policy of Ray Serve, which itself keeps the limits of replicas and the delays.

    Args:
        tokens_per_replica: tokens a replica should have in hand.
    """

    def __init__(self, tokens_per_replica: int) -> None:
        self.tokens_per_replica = tokens_per_replica

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """Return the replicas wanted: tokens in hand of all, over tokens of one."""
        by_replica = (context.aggregated_metrics or {}).get(_TOKENS, {})
        if not by_replica:  # none has told yet
            return float(context.target_num_replicas), {}
        return sum(by_replica.values()) / self.tokens_per_replica, {}


def autoscaling(
    replicas: tuple[int, int],
    delays_s: tuple[float, float],
    tokens_per_replica: int | None,
) -> dict[str, Any]:
    """Return the autoscaling of a Ray Serve deployment.

    Args:
        replicas: least and most.
        delays_s: how long more must be wanted until there are more, and fewer until fewer.
        tokens_per_replica: None where a stage counts no tokens: Ray counts requests then.
    """
    config: dict[str, Any] = {
        "min_replicas": replicas[0],
        "max_replicas": replicas[1],
        "upscale_delay_s": delays_s[0],
        "downscale_delay_s": delays_s[1],
        "metrics_interval_s": _PERIOD_S,
        "look_back_period_s": max(2 * _PERIOD_S, min(delays_s)),
    }
    if tokens_per_replica is not None:
        config["policy"] = {
            "policy_function": f"{__name__}:{ByTokens.__name__}",
            "policy_kwargs": {"tokens_per_replica": tokens_per_replica},
        }
    return config
