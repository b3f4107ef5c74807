from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raybert.errors import InputError
from raybert.losses import (
    BinaryCrossEntropyLoss,
    ContrastiveLoss,
    CosineSimilarityLoss,
    LabelKind,
    LambdaLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)
from raybert.training.data import TrainingData, label_tensor
from raybert.training.data_settings import DataSettings
from raybert.training.opening import open_data

TABLE = pa.table({"q": ["a", "b", "c"], "p": ["d", "e", "f"], "y": [1, 0, 1]})
COLUMNS = {"anchor": "q", "positive": "p"}


def data(**columns: list[Any]) -> TrainingData:
    return TrainingData(pa.table(columns))


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "tsv", "datasets"])
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(TABLE, path)
    elif kind == "datasets":
        datasets.Dataset(TABLE).save_to_disk(str(path))
    elif kind == "jsonl":
        datasets.Dataset(TABLE).to_json(str(path))
    else:
        datasets.Dataset(TABLE).to_csv(str(path), sep="\t" if kind == "tsv" else ",", index=False)
    columns = {"positive": "p", "anchor": "q", "label": "y"}
    found = open_data(DataSettings(files=[str(path)], columns=columns, rows=2))
    assert found.columns == ["positive", "anchor"]
    assert found.texts("anchor", [1, 0]) == ["b", "a"]
    assert len(found) == 2
    labels = found.labels([0, 1], LabelKind.BINARY)
    assert labels is not None
    assert labels.tolist() == [1, 0]
    assert labels.dtype == torch.int64


def test_the_fingerprint_is_of_the_rows_that_are_used(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet")
    pq.write_table(TABLE, tmp_path / "b.parquet", row_group_size=1)
    files = [[str(tmp_path / name)] for name in ("a.parquet", "b.parquet")]
    prints = {open_data(DataSettings(files=each, columns=COLUMNS)).fingerprint for each in files}
    assert len(prints) == 1
    assert (
        open_data(DataSettings(files=files[0], columns=COLUMNS, rows=2)).fingerprint not in prints
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"files": ["none.parquet"]}, "no such file"),
        ({"columns": {"anchor": "query"}}, "no column 'query'; the columns are q, p, y"),
        ({"columns": {"anchor": "q", "positive": "y"}}, "'positive' holds int64, not text"),
        ({"columns": {"label": "y"}}, "no text column beside label"),
        ({"columns": COLUMNS, "prompts": {"query": "Q: "}}, "no column 'query' for data.prompts"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(TABLE, path)
    with pytest.raises(InputError) as told:
        open_data(DataSettings(**{"files": [str(path)], **settings}))
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_empty_null_and_unreadable_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows to train on"):
        TrainingData(TABLE.slice(0, 0))
    with pytest.raises(InputError, match="column 'p' is null in row 1"):
        data(q=["a", "b"], p=["c", None])
    for name, content in (("a.jsonl", "{broken"), ("b.parquet", "no parquet"), ("c.csv", "")):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=name) as told:
            open_data(DataSettings(files=[str(tmp_path / name)]))
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("loss", "columns", "message"),
    [
        (MultipleNegativesRankingLoss(), {"q": ["a"]}, "needs the columns anchor, positive"),
        (CosineSimilarityLoss(), {"q": ["a"], "p": ["b"]}, "a label"),
        (ContrastiveLoss(), {"q": ["a"], "p": ["b"], "label": [2]}, "label 2 in row 0"),
        (SoftmaxLoss(4, 3), {"q": ["a"], "p": ["b"], "label": [3]}, "allows 0 to 2"),
        (
            BinaryCrossEntropyLoss(),
            {"q": ["a"], "p": ["b"], "score": [float("nan")]},
            "finite numbers",
        ),
        (BinaryCrossEntropyLoss(), {"q": ["a"], "p": ["b"], "score": ["x"]}, "must be numbers"),
        (
            LambdaLoss(),
            {"q": ["a"], "docs": [["b", "c"]], "labels": [[1.0]]},
            "as many labels .1. as documents",
        ),
    ],
)
def test_data_that_does_not_fit_its_loss(loss: Any, columns: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data(**columns).fit(loss)


def test_labels_as_losses_take_them() -> None:
    assert label_tensor([0.5, 1], LabelKind.SCORE).dtype == torch.float32
    assert label_tensor([[1.0, 2.0], [3.0, 4.0]], LabelKind.SCORES).shape == (2, 2)
    padded = label_tensor([[1.0], [2.0, 3.0]], LabelKind.LIST)
    assert padded.isnan().tolist() == [[False, True], [False, False]]
    with pytest.raises(InputError, match="row 1 is null"):
        label_tensor([1, None], LabelKind.SCORE)
    with pytest.raises(InputError, match="equally long lists"):
        label_tensor([[1.0], [2.0, 3.0]], LabelKind.SCORES)
