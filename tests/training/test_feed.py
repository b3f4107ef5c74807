"""What only training can give a loss: layers, a guide, a second copy, a decoder, other datasets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raybert.encoders import DenseEncoder
from raybert.errors import SettingsError
from raybert.losses import (
    AdaptiveLayerLoss,
    CoSENTLoss,
    GISTEmbedLoss,
    LossInputs,
    Matryoshka2dLoss,
    MultipleNegativesRankingLoss,
)
from raybert.training import Job, make_training, train
from raybert.training.collate import damage
from raybert.training.companions import innermost
from raybert.training.state import Training

Make = Callable[..., Job]
SMALL = {"size": 8, "sampler": "batch_sampler"}
FEW = {"max_steps": 6, "learning_rate": 1e-3, "warmup_ratio": 0.0}


def curve(training: Training) -> list[float]:
    """Train; returns the loss of every step."""
    losses: list[float] = []
    training.log = lambda values, _: losses.append(values["loss"]) if "loss" in values else None
    train(training)
    return losses


def one_batch(training: Training) -> Any:
    return training.collate(list(range(8)))


def test_several_datasets_with_a_loss_each(make_job: Make, rows: pa.Table, tmp_path: Any) -> None:
    graded = tmp_path / "graded.parquet"
    pq.write_table(rows.select(["anchor", "other", "score"]).slice(0, 24), graded)
    plain = make_job(batch=SMALL, schedule=FEW)
    data = {
        **plain.settings.data.model_dump(),
        "rows": 24,
        "mixing": "round_robin",
        "also": {"graded": {"files": [str(graded)]}},
    }
    job = make_job(batch=SMALL, schedule=FEW, data=data)
    training = make_training(job)
    plan = training.batches.sampler.plan(0)
    batches = [training.collate(plan[step]) for step in range(len(plan))]
    assert [batch.part for batch in batches] == [0, 1] * 3
    assert [batch.labels is None for batch in batches] == [True, False] * 3
    found = training.step(batches[1])
    columns = [training.encoder.model(training.encoder.collate(c)) for c in batches[1].columns]
    vectors = [each["sentence_embedding"] for each in columns]
    expected = CoSENTLoss()(LossInputs.of(*vectors), batches[1].labels)
    torch.testing.assert_close(found.loss, expected, rtol=1e-4, atol=1e-5)
    assert len(curve(training)) == 6


def test_layers_are_pooled_as_the_model_pools(make_job: Make) -> None:
    settings = {"n_layers_per_step": -1, "loss": "MultipleNegativesRankingLoss"}
    job = make_job(loss={"name": "AdaptiveLayerLoss", "settings": settings}, batch=SMALL)
    training = make_training(job)
    encoder, batch = training.encoder, one_batch(training)
    found = training.step(batch)
    assert set(found.terms) == {"loss", "prior_layers", "kl_div"}

    bert: Any = encoder.model[0].model
    columns, layers = [], []
    for tokens in batch.columns:
        features = encoder.collate(tokens)
        inputs = {key: features[key] for key in ("input_ids", "attention_mask")}
        output = bert(**inputs, output_hidden_states=True)
        mask = features["attention_mask"][:, :, None].float()
        pooled = [(state * mask).sum(1) / mask.sum(1) for state in output.hidden_states]
        columns.append(pooled[-1])
        layers.append(torch.stack(pooled[:-1], dim=1))
    loss = AdaptiveLayerLoss(MultipleNegativesRankingLoss(), n_layers_per_step=-1)
    expected = loss(LossInputs.of(*columns, layers=layers))
    torch.testing.assert_close(found.loss, expected, rtol=1e-4, atol=1e-5)


def test_two_dimensions_train_cached_too(make_job: Make) -> None:
    settings = {"loss": "MultipleNegativesRankingLoss", "matryoshka_dims": [32, 8]}
    job = make_job(
        loss={"name": "Matryoshka2dLoss", "settings": settings},
        batch={**SMALL, "cached_rows": 4},
        schedule=FEW,
    )
    training = make_training(job)
    assert isinstance(innermost(training.loss), Matryoshka2dLoss)
    assert len(curve(training)) == 6


def test_a_guide_reads_the_texts_itself(make_job: Make, minilm: Any) -> None:
    job = make_job(loss={"name": "GISTEmbedLoss", "guide": str(minilm)}, batch=SMALL)
    training = make_training(job)
    batch = one_batch(training)
    found = training.step(batch).loss
    texts = [training.collate.data.texts(name, range(8)) for name in ("anchor", "positive")]  # type: ignore[union-attr]
    guide = DenseEncoder(minilm, device="cpu", dtype="float32")
    guides = [torch.from_numpy(guide.encode(column)) for column in texts]
    model = training.encoder.model
    vectors = [
        model(training.encoder.collate(tokens))["sentence_embedding"] for tokens in batch.columns
    ]
    expected = GISTEmbedLoss()(LossInputs.of(*vectors, guide=guides))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(SettingsError, match="MultipleNegativesRankingLoss has no guide"):
        make_training(make_job(loss={"name": "MultipleNegativesRankingLoss", "guide": str(minilm)}))


@pytest.mark.parametrize("cached", [None, 4])
def test_two_copies_are_trained_apart(make_job: Make, cached: int | None) -> None:
    data = make_job(columns=("positive",)).settings.data.model_dump()
    job = make_job(
        columns=("positive",),
        data={**data, "rows": 12, "tension": 3},
        loss={"name": "ContrastiveTensionLoss"},
        batch={**SMALL, "cached_rows": cached},
        schedule=FEW,
    )
    training = make_training(job)
    twin: Any = training.loss.loss.twin  # type: ignore[union-attr]
    before = copy.deepcopy(twin.state_dict())
    curve(training)
    moved = [not torch.equal(value, before[name]) for name, value in twin.state_dict().items()]
    assert any(moved)
    first, second = (model.state_dict() for model in (training.encoder.model, twin))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_text_is_found_among_the_copies_of_all(make_job: Make) -> None:
    loss = {"name": "ContrastiveTensionLossInBatchNegatives"}
    training = make_training(make_job(columns=("positive",), loss=loss, batch=SMALL, schedule=FEW))
    losses = curve(training)
    assert losses[-1] < losses[0]


def test_denoising_rebuilds_texts_with_a_tied_decoder(make_job: Make) -> None:
    data = make_job(columns=("positive",)).settings.data.model_dump()
    columns = {"damaged": "positive", "clean": "positive"}
    job = make_job(
        columns=("positive",),
        data={**data, "columns": columns},
        loss={"name": "DenoisingAutoEncoderLoss"},
        batch=SMALL,
        schedule={**FEW, "max_steps": 12, "kind": "constant"},
    )
    training = make_training(job)
    decoder: Any = training.loss.decoder
    transformer: Any = training.encoder.model[0]
    embedding = transformer.model.embeddings.word_embeddings.weight
    assert decoder.model.get_input_embeddings().weight is embedding
    assert len({id(each) for each in training.parameters}) == len(training.parameters)
    batch = one_batch(training)
    assert batch.labels is not None
    assert batch.labels.shape[0] == 8
    assert sum(batch.columns[0].lengths) < int((batch.labels != 0).sum())
    losses = curve(training)
    assert losses[-1] < losses[0]


def test_damage_leaves_some_words_in_order() -> None:
    torch.manual_seed(1)
    text = " ".join(str(number) for number in range(2000))
    kept = [int(word) for word in damage(text).split()]
    assert kept == sorted(set(kept))
    assert 700 < len(kept) < 900
    assert all(damage("one two").split() for _ in range(20))
    assert damage("") == ""


def test_routes_must_be_those_of_the_model(make_job: Make) -> None:
    data = make_job().settings.data.model_dump()
    with pytest.raises(SettingsError, match="this model has no routes"):
        make_training(make_job(data={**data, "routes": {"anchor": "query"}}))
