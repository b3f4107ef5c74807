from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybert.errors import InputError
from raybert.training.columns import shaped, tension_pairs
from raybert.training.data_settings import DataSettings, MixtureSettings
from raybert.training.opening import open_data

TABLE = pa.table(
    {
        "q": ["a", "b"],
        "p": ["c", "d"],
        "n": [["e", "f", "g"], ["h", "i"]],
        "scores": [[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0]],
    }
)


def shape(table: pa.Table = TABLE, **settings: Any) -> pa.Table:
    return shaped(table, DataSettings(files=["x"], **settings), "here")


def test_lists_become_columns_and_scores_are_cut() -> None:
    found = shape(spread={"n": 2, "scores": 3})
    assert found.column_names == ["q", "p", "n_1", "n_2", "scores"]
    assert found["n_2"].to_pylist() == ["f", "i"]
    assert found["scores"].to_pylist() == [[3.0, 2.0, 1.0]] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spread": {"n": 3}}, "row 1 has 2 n; data.spread asks for 3"),
        ({"spread": {"x": 1}}, "no column 'x' to spread"),
        ({"spread": {"q": 1}}, "no lists to spread"),
        ({"tension": 2}, "pairs of one text column"),
    ],
)
def test_what_cannot_be_shaped_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        shape(**settings)


def test_tension_pairs_each_text_with_itself_and_with_others() -> None:
    table = tension_pairs(pa.table({"text": ["a", "b", "c"]}), 7)
    rows = table.to_pylist()
    assert len(rows) == 24
    assert sum(row["label"] for row in rows) == 3
    assert all((row["sentence_1"] == row["sentence_2"]) == row["label"] for row in rows)
    assert table.equals(tension_pairs(pa.table({"text": ["a", "b", "c"]}), 7))


def test_ids_are_joined_to_their_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"q": ["what", "who"], "doc": [7, 5]}), tmp_path / "rows.parquet")
    texts = {"key": ["5", "6", "7"], "body": ["five", "six", "seven"]}
    pq.write_table(pa.table(texts), tmp_path / "texts.parquet")
    told = {"files": [str(tmp_path / "texts.parquet")], "id_column": "key", "text_column": "body"}
    rows = [str(tmp_path / "rows.parquet")]
    data = open_data(DataSettings(files=rows, texts={"doc": told}))
    assert data.texts("doc", [1, 0]) == ["five", "seven"]
    assert data.texts("q", [1]) == ["who"]
    first = data.fingerprint
    pq.write_table(pa.table({**texts, "body": ["v", "vi", "vii"]}), tmp_path / "texts.parquet")
    assert open_data(DataSettings(files=rows, texts={"doc": told})).fingerprint != first

    pq.write_table(pa.table({"q": ["what"], "doc": [8]}), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="no text with the id 8, which column 'doc' has in row"):
        open_data(DataSettings(files=rows, texts={"doc": told}))
    with pytest.raises(InputError, match="no column 'id'; the columns are key, body"):
        open_data(DataSettings(files=rows, texts={"doc": {"files": told["files"]}}))
    pq.write_table(pa.table({"key": ["8", "8"], "body": ["a", "b"]}), tmp_path / "texts.parquet")
    with pytest.raises(InputError, match="1 ids come more than once"):
        open_data(DataSettings(files=rows, texts={"doc": told}))


def test_several_datasets_keep_their_own_columns(tmp_path: Path) -> None:
    for name, table in (
        ("pairs", {"a": ["x", "y"], "b": ["1", "2"]}),
        ("graded", {"s": ["z"], "t": ["3"], "score": [0.5]}),
    ):
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    files = {name: [str(tmp_path / f"{name}.parquet")] for name in ("pairs", "graded")}
    settings = MixtureSettings(files=files["pairs"], also={"graded": {"files": files["graded"]}})
    data = open_data(settings)
    assert len(data) == 3
    assert [part.columns for part in data.parts] == [["a", "b"], ["s", "t"]]
    assert data.parts[1].label == "score"
    assert data.fingerprint != open_data(DataSettings(files=files["pairs"])).fingerprint
    with pytest.raises(InputError, match=r"data\.also\.graded .*no such file"):
        open_data(
            MixtureSettings(files=files["pairs"], also={"graded": {"files": ["none.parquet"]}})
        )
