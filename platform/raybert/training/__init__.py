"""Training: a loop over batches, its step's strategies in plain torch, and its way onto Ray.

>>> from raybert.training import Job, run_training                    # doctest: +SKIP
>>> run_training(Job(settings, "dense"), "train_dense")               # doctest: +SKIP
"""

from raybert.training.build import Job, make_training
from raybert.training.cached_step import EMBEDDING, StepLoss, cached_step, plain_step
from raybert.training.data import TrainingData
from raybert.training.data_settings import DataSettings, LossSettings, MixtureSettings
from raybert.training.gather import GatheredLoss, gather_rows
from raybert.training.launch import train_job
from raybert.training.loop import train
from raybert.training.mini_batches import MiniBatches, Rows, TensorRows
from raybert.training.opening import open_data
from raybert.training.saving import Outcome, finish_model, inputs_of
from raybert.training.settings import (
    BatchSettings,
    EvaluationSettings,
    SavingSettings,
    ScaleSettings,
    ScheduleSettings,
    TrainingSettings,
)
from raybert.training.tracked import publish, run_training

__all__ = [
    "EMBEDDING",
    "BatchSettings",
    "DataSettings",
    "EvaluationSettings",
    "GatheredLoss",
    "Job",
    "LossSettings",
    "MiniBatches",
    "MixtureSettings",
    "Outcome",
    "Rows",
    "SavingSettings",
    "ScaleSettings",
    "ScheduleSettings",
    "StepLoss",
    "TensorRows",
    "TrainingData",
    "TrainingSettings",
    "cached_step",
    "finish_model",
    "gather_rows",
    "inputs_of",
    "make_training",
    "open_data",
    "plain_step",
    "publish",
    "run_training",
    "train",
    "train_job",
]
