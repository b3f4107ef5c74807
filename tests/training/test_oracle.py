"""The loss curve of the reference library's trainer, step by step, on the same batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import sentence_transformers as st
import torch
from sentence_transformers import cross_encoder, sparse_encoder
from sentence_transformers.cross_encoder import losses as cross_losses
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sparse_encoder import losses as sparse_losses

from raybert.training import Job, make_training, open_data, train

STEPS = {"splade": 20}
"""Steps of a case, else 50."""
RATES = {"splade": 1e-4}
"""Learning rate of a case, else 1e-3: where the loss is 40, larger steps grow rounding."""
SIZE = 8
CASES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "ranking": ("dense", "MultipleNegativesRankingLoss", ("anchor", "positive")),
    "grades": ("dense", "CoSENTLoss", ("anchor", "other", "score")),
    "pairs": ("cross", "BinaryCrossEntropyLoss", ("anchor", "other", "score")),
    "splade": ("sparse", "SpladeLoss", ("anchor", "positive")),
}
SPLADE = {"document_regularizer_weight": 3e-3, "query_regularizer_weight": 5e-3}


def oracle_parts(name: str, model: Path) -> tuple[Any, torch.nn.Module, Any, Any]:
    """Return the reference's model, loss, arguments and trainer."""
    family = CASES[name][0]
    encoder: Any
    if family == "cross":
        encoder = st.CrossEncoder(str(model), device="cpu", num_labels=1)
        loss: torch.nn.Module = cross_losses.BinaryCrossEntropyLoss(encoder)
        return (
            encoder,
            loss,
            cross_encoder.CrossEncoderTrainingArguments,
            cross_encoder.CrossEncoderTrainer,
        )
    if family == "sparse":
        encoder = st.SparseEncoder(str(model), device="cpu")
        ranking = sparse_losses.SparseMultipleNegativesRankingLoss(encoder)
        return (
            encoder,
            sparse_losses.SpladeLoss(encoder, ranking, **SPLADE),
            sparse_encoder.SparseEncoderTrainingArguments,
            sparse_encoder.SparseEncoderTrainer,
        )
    encoder = st.SentenceTransformer(str(model), device="cpu")
    kind = losses.CoSENTLoss if name == "grades" else losses.MultipleNegativesRankingLoss
    return (
        encoder,
        kind(encoder),
        st.SentenceTransformerTrainingArguments,
        st.SentenceTransformerTrainer,
    )


def oracle_curve(name: str, job: Job, batches: list[list[int]], scratch: Path) -> list[float]:
    """Train with the reference on these batches; returns the loss of every step."""
    model, loss, arguments, trainer = oracle_parts(name, Path(job.settings.model))
    curve: list[float] = []

    def record(*call: Any) -> None:
        found = call[-1]
        parts = found.values() if isinstance(found, dict) else [found]
        curve.append(sum(part.item() for part in parts))

    class Ours(trainer):  # type: ignore[misc, valid-type]
        def get_batch_sampler(self, *_: Any, **__: Any) -> Any:
            class Planned(torch.utils.data.BatchSampler):
                def __init__(self) -> None: ...

                def __iter__(self) -> Iterator[list[int]]:
                    return iter(batches)

                def __len__(self) -> int:
                    return len(batches)

            return Planned()

    loss.register_forward_hook(record)
    Ours(
        model=model,
        args=arguments(
            output_dir=str(scratch),
            num_train_epochs=1,
            per_device_train_batch_size=SIZE,
            learning_rate=job.settings.schedule.learning_rate,
            warmup_steps=math.ceil(len(batches) / 10),
            weight_decay=0.01,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset(open_data(job.settings.data).table),
        loss=loss,
    ).train()
    return curve


@pytest.mark.parametrize("name", CASES)
def test_loss_curve_equals_the_reference_trainer(
    name: str, make_job: Callable[..., Job], tmp_path: Path
) -> None:
    family, loss, columns = CASES[name]
    steps = STEPS.get(name, 50)
    inner: dict[str, Any] = {}
    if name == "splade":  # the reference's trainer adds this warm-up of its own accord
        inner = {"loss": "SparseMultipleNegativesRankingLoss", "warmup_ratio": 1 / 3, **SPLADE}
    job = make_job(
        family,
        columns,
        loss={"name": loss, "settings": inner},
        batch={"size": SIZE, "sampler": "batch_sampler"},
        schedule={"max_steps": steps, "learning_rate": RATES.get(name, 1e-3), "weight_decay": 0.01},
    )
    training = make_training(job)
    plan = training.batches.sampler.plan(0)
    batches = [plan[step] for step in range(steps)]
    curve: list[float] = []
    training.log = lambda values, step: curve.append(values["loss"])
    train(training)
    expected = oracle_curve(name, job, batches, tmp_path / "oracle")
    assert len(curve) == steps
    assert max(curve) - min(curve) > 0.01
    assert curve == pytest.approx(expected, abs=1e-4, rel=1e-5)
