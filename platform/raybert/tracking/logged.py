"""A model folder as MLflow keeps it: signature, input example and loader; nothing is pickled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raybert import __version__

LOADER = "raybert.encoders.pyfunc"
"""Module by which MLflow opens a logged model."""
EXAMPLE = "input_example.json"
INSIDE = Path("data") / "model"
"""Where in MLflow's layout the Sentence Transformers folder lies."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How a model is called: what MLflow's users see of it.

    Args:
        columns: columns of text it takes, in order: `text`, and `text_pair` where it scores pairs.
        widths: numbers it gives for a row: (D,), () for one score; None where that differs, as
            the terms of a sparse model do.
        example: some rows, as many texts each as there are columns.
    """

    columns: tuple[str, ...] = ("text",)
    widths: tuple[int, ...] | None = (-1,)
    example: Sequence[Sequence[str]] = ()


def lay_out(folder: Path, target: Path, usage: Usage | None = None) -> None:
    """Write a model folder in MLflow's layout: `MLmodel` above, the folder in `data/model`."""
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    usage = usage or Usage()
    shutil.copytree(folder, target / INSIDE)
    model = Model(signature=_signature(usage))
    if usage.example:
        model.saved_input_example_info = _example(usage, target)
    add_to_model(model, loader_module=LOADER, data=INSIDE.as_posix())
    model.save(str(target / "MLmodel"))
    (target / "requirements.txt").write_text(f"raybert=={__version__}\n", encoding="utf-8")


def _signature(usage: Usage) -> Any:
    """Return what goes in and what comes out, in MLflow's terms."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, DataType, Schema, TensorSpec

    texts = Schema([ColSpec(DataType.string, name) for name in usage.columns])
    if usage.widths is None:
        return ModelSignature(texts)
    return ModelSignature(texts, Schema([TensorSpec(np.dtype(np.float32), (-1, *usage.widths))]))


def _example(usage: Usage, target: Path) -> dict[str, str]:
    """Write the example as MLflow reads it; returns what `MLmodel` says of it."""
    table = {"columns": list(usage.columns), "data": [list(row) for row in usage.example]}
    (target / EXAMPLE).write_text(json.dumps(table), encoding="utf-8")
    return {"artifact_path": EXAMPLE, "type": "dataframe", "pandas_orient": "split"}
