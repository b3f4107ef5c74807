"""Pictures beside texts: a small CLIP learns which colours are called what."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from PIL import Image

from raybert.errors import InputError, SettingsError
from raybert.training import Job, TrainingSettings, make_training, train

Make = Callable[..., Job]
COLOURS = ("red", "green", "blue", "yellow", "purple", "white", "black", "orange")


@pytest.fixture(scope="module")
def clip(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP of one layer a half."""
    folder = tmp_path_factory.mktemp("clip")
    layers = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1}
    layers["num_attention_heads"] = 2
    text = {**layers, "vocab_size": 30522, "max_position_embeddings": 16, "eos_token_id": 102}
    vision = {**layers, "image_size": 16, "patch_size": 8}
    torch.manual_seed(9)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(str(folder))
    square = {"height": 16, "width": 16}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=square)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(minilm))
    transformers.CLIPProcessor(processor, tokenizer).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colours by name and as pictures."""
    files = []
    for colour in COLOURS:
        Image.new("RGB", (16, 16), colour).save(file := io.BytesIO(), "PNG")
        files.append(file.getvalue())
    path = tmp_path_factory.mktemp("squares") / "squares.parquet"
    pq.write_table(pa.table({"name": list(COLOURS), "png": files, "number": [1] * 8}), path)
    return path


def settings(model: Path, squares: Path, out: Path, **changed: Any) -> TrainingSettings:
    data = {
        "files": [str(squares)],
        "columns": {"caption": "name", "picture": "png"},
        "images": ["picture"],
    }
    given: dict[str, Any] = {
        "out": str(out),
        "tracking_uri": "none",
        "model": str(model),
        "data": data,
        "loss": {"name": "MultipleNegativesSymmetricRankingLoss"},
        "batch": {"size": 8, "tokens_per_pass": 20},
        "schedule": {"epochs": 40, "learning_rate": 1e-2},
        "evaluation": {"translations": data, "every": 40},
        "saving": {"every": 40, "log_every": 1},
        "scale": {"device": "cpu"},
        **changed,
    }
    return TrainingSettings(**given)


def test_a_model_of_pictures_learns_what_they_are_called(
    clip: Path, squares: Path, tmp_path: Path
) -> None:
    training = make_training(Job(settings(clip, squares, tmp_path / "model"), "dense"))
    batch = training.collate(list(range(8)))
    assert batch.columns[1].lengths == [5] * 8
    progress = train(training)
    assert progress.before["mean_accuracy"] < 0.5
    assert progress.metrics["mean_accuracy"] == 1.0
    first, last = (progress.history["loss"][at][1] for at in (0, -1))
    assert last < first / 4


def test_passes_and_caching_change_no_gradient(clip: Path, squares: Path, tmp_path: Path) -> None:
    gradients = []
    for batch in ({"size": 8}, {"size": 8, "tokens_per_pass": 12}, {"size": 8, "cached_rows": 3}):
        job = Job(settings(clip, squares, tmp_path / "model", batch=batch), "dense")
        training = make_training(job)
        training.step(training.collate(list(range(8)))).loss.backward()  # type: ignore[no-untyped-call]
        found = [each.grad for each in training.parameters if each.grad is not None]
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-4, atol=1e-6)


def test_what_is_no_picture_is_refused(
    clip: Path, squares: Path, make_job: Make, tmp_path: Path
) -> None:
    where = {"files": [str(squares)], "columns": {"caption": "name", "picture": "number"}}
    numbers = settings(clip, squares, tmp_path, data={**where, "images": ["picture"]})
    with pytest.raises(InputError, match="column 'picture' holds int64, neither files nor their"):
        make_training(Job(numbers, "dense"))
    where["columns"] = {"caption": "name", "picture": "png"}
    texts = make_job(data={**where, "images": ["picture"]})
    with pytest.raises(SettingsError, match="column 'picture' needs a model of images"):
        make_training(texts)
    where["columns"] = {"caption": "name"}
    unknown = make_job(data={**where, "images": ["photo"]})
    with pytest.raises(InputError, match=r"no column 'photo' for data\.images"):
        make_training(unknown)
