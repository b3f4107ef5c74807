"""Training on Ray Train, or in this process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from raybert.corpus.cluster import cluster_size, connect
from raybert.devices import cpu_count, set_threads
from raybert.errors import InputError, PlatformError, RaybertError, SettingsError
from raybert.modules.lora import merge_lora
from raybert.settings import fault, set_environment
from raybert.tracking import Run, reopen_run
from raybert.tracking.store import NullStore
from raybert.training.build import Job, make_training
from raybert.training.companions import told
from raybert.training.data import TrainingData
from raybert.training.loop import MAIN, train
from raybert.training.meter import TrainingProgress
from raybert.training.opening import open_data
from raybert.training.ranks import on_first, rank
from raybert.training.saving import Outcome, save_model
from raybert.training.settings import ScaleSettings, TrainingSettings

START_TIMEOUT_S = "300"
"""Seconds a group of workers may take to start; Ray's own 60 is short on a busy machine."""


def train_job(job: Job, data: TrainingData, run: Run) -> Outcome:
    """Train and save a model; the same call goes on with what was begun.

    Args:
        job: what is to be trained.
        data: its rows, already read; Ray's workers read them again for themselves.
        run: where the numbers are recorded.

    Raises:
        RaybertError: a fault of the user's.
        PlatformError: workers died more often than `scale.retries`.
    """
    scale = job.settings.scale
    if scale.workers:
        data.close()
        return _on_ray(job, run)
    if scale.threads is not None:
        set_threads(scale.threads)
    return _train(job, run, data)


def _train(job: Job, run: Run, data: TrainingData) -> Outcome:
    """Train on this rank; rank 0 records and saves."""
    training = make_training(job, data)
    shown = TrainingProgress(training.schedule.total_steps, show=rank() == 0)

    def log(values: Mapping[str, float], step: int) -> None:
        run.metrics(values, step)
        shown.add(values, step)

    training.log, training.send_log = log, run.flush
    with shown:
        progress = train(training)
    merge_lora(training.encoder.model)
    loss = told(training.loss)
    outcome = Outcome(
        steps=progress.step,
        loss=loss,
        before=_public(progress.before),
        metrics=_public(progress.metrics),
        history=progress.history,
    )
    fingerprint, files = on_first(lambda: save_model(job, training, outcome))
    return replace(outcome, fingerprint=fingerprint, files=files)


def _public(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics without the copy of the one that decides."""
    return {name: value for name, value in metrics.items() if name != MAIN}


def _on_ray(job: Job, run: Run) -> Outcome:
    """Train on Ray Train's workers; after a death all start again, from the last checkpoint."""
    set_environment(RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=START_TIMEOUT_S)
    import ray.train
    from ray.train.torch import TorchConfig

    from raybert.training.ray_trainer import trainer_class

    connect(train=True)
    scale = job.settings.scale
    gpu = scale.device.startswith("cuda") or (scale.device == "auto" and cluster_size()[1] > 0)
    plain = TrainingSettings(**job.settings.model_dump(include=set(TrainingSettings.model_fields)))
    trainer = trainer_class()(
        _worker,
        train_loop_config={
            "job": replace(job, settings=plain),
            "run": (run.tracking_uri, run.run_id),
            "threads": scale.threads or max(1, cpu_count() // scale.workers),
        },
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=_workers(scale), use_gpu=gpu),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=job.checkpoints.absolute,
            failure_config=ray.train.FailureConfig(max_failures=scale.retries),
        ),
    )
    # Ray's own notes of an earlier attempt would end this one at once: they say it is finished.
    job.checkpoints.remove("ray")
    try:
        outcome: Outcome = trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        raise PlatformError(f"training stopped: {fault(error)}") from error
    if outcome.fault is not None:
        raise InputError(outcome.fault)
    return outcome


def _workers(scale: ScaleSettings) -> int | tuple[int, int]:
    """Return how many workers Ray Train may start: a number, or fewest and most.

    Raises:
        SettingsError: the fewest are more than the most.
    """
    least = scale.least_workers
    if least is None or least == scale.workers:
        return scale.workers
    if least > scale.workers:
        raise SettingsError(f"scale.least_workers {least}: scale.workers is {scale.workers}")
    return least, scale.workers


def _worker(config: Mapping[str, Any]) -> Outcome:
    """Train on one of Ray Train's workers.

    A fault of the user's is the same on every rank; it is handed back, for raising it would make
    Ray start the workers again.
    """
    import ray.train

    set_threads(config["threads"])
    first = ray.train.get_context().get_world_rank() == 0
    run = reopen_run(*config["run"]) if first else Run(NullStore(), None)
    try:
        job: Job = config["job"]
        with closing(open_data(job.settings.data)) as data:
            return _train(job, run, data)
    except RaybertError as error:
        return Outcome(fault=fault(error))
    finally:
        run.flush()
