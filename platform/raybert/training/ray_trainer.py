"""Ray Train's trainer, on a cluster or on a Ray that ends with this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

from raybert.settings import ray_address, set_environment


class LoneTrainer(TorchTrainer):  # type: ignore[misc]
    """A trainer without the actors that a Ray of one machine and one training has no use for.

    Left out are who frees the workers' places should the controller die (they end with this
    process anyway), who keeps datasets for the workers (they open their own), and who asks for
    more nodes. Each takes time from the workers (docs/decisions/038); Ray has no setting for them.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [
            _NoDatasets(self.train_run_context, {}) if isinstance(each, DatasetsCallback) else each
            for each in super()._create_default_callbacks()
            if not isinstance(each, PlacementGroupCleanerCallback)
        ]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        if isinstance(parts["scaling_policy"], FixedScalingPolicy):
            parts["scaling_policy"] = _OneMachine(self.scaling_config)
        return super()._initialize_and_run_controller(**parts)


class _NoDatasets(DatasetsCallback):  # type: ignore[misc]
    """Hands Ray Data's settings to the workers, and no datasets."""

    def before_init_train_context(self, workers: Sequence[Any]) -> dict[str, list[None]]:
        return {"dataset_shard_provider": [None] * len(workers)}


class _OneMachine(FixedScalingPolicy):  # type: ignore[misc]
    """A fixed number of workers, for whom no nodes are asked: there are none."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ask nobody."""

    def _maybe_send_resource_request(self) -> None:
        """Ask nobody."""


def trainer_class() -> Any:
    """Return the trainer for the Ray this process works on: a cluster's, or one of its own."""
    if ray_address() is not None:
        return TorchTrainer
    # The only node is this machine: nobody takes it away.
    set_environment(RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0")
    return LoneTrainer
