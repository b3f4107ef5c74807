"""Rows with a teacher's labels, and the smaller student that learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raybert.artifacts import (
    Folder,
    Input,
    Manifest,
    fingerprint,
    finished,
    write_manifest,
    write_table,
)
from raybert.encoders import CrossEncoder, DenseEncoder, open_encoder
from raybert.encoders.open import encoder_class
from raybert.errors import ArtifactError, InputError, SettingsError
from raybert.modules import locate_model, read_checkpoint
from raybert.modules.layers import keep_layers
from raybert.training.data import TrainingData

ROWS = "rows.parquet"
LABEL = "label"


def teach(data: TrainingData, teacher: str, out: str, device: str = "auto") -> str:
    """Write the rows with a teacher's labels; returns the file. What is written already stays.

    A dense teacher reads the first column and gives each row its vector; a cross-encoder reads
    the first column with each other one and gives a score for each.

    Args:
        data: the rows; a label of their own is left out.
        teacher: model folder.
        out: folder of the labelled rows.
        device: of the teacher.

    Raises:
        ModelError: the teacher cannot be opened.
        InputError: a cross-encoder finds one column alone, or has several labels.
        ArtifactError: something else lies there.
    """
    encoder: Any = open_encoder(teacher, device=device)
    inputs = (
        Input(kind="pairs", uri=data.where, fingerprint=data.fingerprint),
        Input(kind="model", uri=teacher, fingerprint=encoder.fingerprint),
    )
    folder, file = Folder(out), f"{out.rstrip('/')}/{ROWS}"
    if (done := finished(folder)) is not None:
        if done.inputs != inputs:
            raise ArtifactError(f"{out}: holds what another teacher said, or of other rows")
        return file
    rows = range(len(data.table))
    print(f"the teacher reads {len(rows):,} rows", flush=True)
    columns = {name: data.texts(name, rows) for name in data.columns}
    labels = (
        _scores(encoder, columns)
        if isinstance(encoder, CrossEncoder)
        else _vectors(encoder, next(iter(columns.values())))
    )
    shard = write_table(folder, ROWS, pa.table({**columns, LABEL: labels}))
    write_manifest(
        folder,
        Manifest(
            kind="pairs",
            fingerprint=fingerprint([item.fingerprint for item in inputs]),
            rows=len(rows),
            inputs=inputs,
            shards=(shard,),
        ),
    )
    return file


def teachers_loss(teacher: str) -> str:
    """Return the loss by which a dense student learns of this teacher, where none is named.

    Raises:
        ModelError: the folder cannot be read.
    """
    kind = encoder_class(read_checkpoint(locate_model(teacher)))
    return "MarginMSELoss" if issubclass(kind, CrossEncoder) else "MSELoss"


def shallow_student(model: str, layers: Sequence[int], out: str) -> str:
    """Write a model with some of another's layers; returns its folder.

    Raises:
        ModelError: the model cannot be opened.
        SettingsError: it has no such layers, or `out` is not on this machine.
    """
    if Folder(out).local is None:
        raise SettingsError(f"keep_layers: the student is laid out beside --out, locally; {out}")
    student = DenseEncoder(model, device="cpu", dtype="float32")
    keep_layers(student.model, layers)
    return str(student.save_pretrained(Path(out)))


def _vectors(teacher: Any, texts: Sequence[str]) -> pa.Array:
    """Return the teacher's vector of each text."""
    vectors = np.asarray(teacher.encode(list(texts)), dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def _scores(teacher: CrossEncoder, columns: dict[str, list[Any]]) -> pa.Array:
    """Return the teacher's logit of the first column with each other one.

    Raises:
        InputError: there is no other column, or the teacher has several labels.
    """
    first, *others = columns.values()
    if not others or teacher.num_labels != 1:
        raise InputError(
            "a cross-encoder teaches with one score a pair, of two columns at least; this one has "
            f"{teacher.num_labels} labels, the rows have the columns {', '.join(columns)}"
        )
    pairs = [pair for column in others for pair in zip(first, column, strict=True)]
    logits = np.asarray(teacher.predict(pairs, activation_fn=lambda logits: logits))
    table = logits.astype(np.float32).reshape(len(others), -1).T
    return pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), len(others))
