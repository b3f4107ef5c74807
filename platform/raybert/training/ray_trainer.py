"""Ray Train's trainer, on a cluster or on a Ray that ends with this process."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from raybert.settings import ray_address, set_environment


class LoneTrainer(TorchTrainer):  # type: ignore[misc]
    """A trainer that leaves out who frees the workers' places should the controller die.

    They end with this process anyway. That watcher asks a dashboard every second, and both take
    time from the workers (docs/decisions/038). Ray has no setting for it.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [
            each
            for each in super()._create_default_callbacks()
            if not isinstance(each, PlacementGroupCleanerCallback)
        ]


def trainer_class() -> Any:
    """Return the trainer for the Ray this process works on: a cluster's, or one of its own."""
    if ray_address() is not None:
        return TorchTrainer
    # The only node is this machine: nobody takes it away.
    set_environment(RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0")
    return LoneTrainer
