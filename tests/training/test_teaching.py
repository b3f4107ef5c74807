from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raybert.encoders import CrossEncoder, DenseEncoder
from raybert.errors import ArtifactError, InputError, SettingsError
from raybert.losses import LabelKind
from raybert.training.data import TrainingData
from raybert.training.data_settings import DataSettings
from raybert.training.opening import open_data
from raybert.training.teaching import shallow_student, teach, teachers_loss

Small = Callable[..., Path]
TABLE = pa.table({"en": ["a cat", "the sky"], "de": ["eine Katze", "der Himmel"]})


def test_a_dense_teacher_gives_each_row_its_vector(small_model: Small, tmp_path: Path) -> None:
    teacher, data = str(small_model("dense")), TrainingData(TABLE, "rows")
    file = teach(data, teacher, str(tmp_path / "taught"), "cpu")
    taught = open_data(DataSettings(files=[file]))
    assert taught.columns == ["en", "de"]
    labels = taught.labels([1, 0], LabelKind.VECTOR)
    assert labels is not None
    expected = DenseEncoder(teacher, device="cpu", dtype="float32").encode(["the sky", "a cat"])
    np.testing.assert_allclose(labels.numpy(), expected, atol=1e-6)
    assert teachers_loss(teacher) == "MSELoss"

    written = Path(file).stat().st_mtime_ns
    assert teach(data, teacher, str(tmp_path / "taught"), "cpu") == file
    assert Path(file).stat().st_mtime_ns == written
    with pytest.raises(ArtifactError, match="or of other rows"):
        teach(TrainingData(TABLE.slice(1)), teacher, str(tmp_path / "taught"), "cpu")


def test_a_cross_encoder_scores_the_first_column_with_each_other(
    small_model: Small, tmp_path: Path
) -> None:
    teacher = str(small_model("cross"))
    table = TABLE.append_column("fr", pa.array(["un chat", "le ciel"]))
    file = teach(TrainingData(table), teacher, str(tmp_path / "taught"), "cpu")
    labels = pq.read_table(file)["label"].to_pylist()
    reader: Any = CrossEncoder(teacher, device="cpu", dtype="float32")
    pairs = [("the sky", "der Himmel"), ("the sky", "le ciel")]
    logits = reader.predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(labels[1], logits, atol=1e-5)
    assert teachers_loss(teacher) == "MarginMSELoss"
    with pytest.raises(InputError, match="of two columns at least"):
        teach(TrainingData(table.select(["en"])), teacher, str(tmp_path / "none"), "cpu")


def test_a_shallow_student_has_the_layers_asked_for(small_model: Small, tmp_path: Path) -> None:
    model = str(small_model("dense"))
    student: Any = DenseEncoder(shallow_student(model, [1], str(tmp_path / "s")), device="cpu")
    whole: Any = DenseEncoder(model, device="cpu")
    (kept,) = student.model[0].model.encoder.layer
    wanted = whole.model[0].model.encoder.layer[1].state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in kept.state_dict().items())
    assert student.encode(["a cat"]).shape == (1, 32)
    for layers in ([2], [-1]):
        with pytest.raises(SettingsError, match="this model has layers 0 to 1"):
            shallow_student(model, layers, str(tmp_path / "t"))
    with pytest.raises(SettingsError, match="one layer at least"):
        shallow_student(model, [], str(tmp_path / "t"))
