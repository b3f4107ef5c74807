from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybert.corpus import Columns, cut_into_pieces, find_files
from raybert.corpus.documents import read_documents

ROWS: list[dict[str, Any]] = [
    {"id": "a", "title": "One", "text": "first text", "year": 1999},
    {"id": "b", "title": None, "text": "second text", "year": 2001},
]


def read(path: Path, columns: Columns) -> list[dict[str, Any]]:
    pieces = cut_into_pieces(find_files([str(path)]))
    return [row for table in read_documents(pieces, columns) for row in table.to_pylist()]


def test_parquet_keeps_columns_and_types(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([*ROWS, {"id": None, "text": "no id"}])
    pq.write_table(table, tmp_path / "docs.parquet", row_group_size=2)
    assert read(tmp_path / "docs.parquet", Columns()) == [
        {"id": row["id"], "text": row["text"], "title": row["title"], "year": row["year"]}
        for row in ROWS
    ]


def test_jsonl_keeps_columns_past_bad_lines(tmp_path: Path) -> None:
    lines = [
        '{"id": "a", "text": "first text", "title": "One", "tags": ["x"]}',
        "not json",
        '{"id": "c", "text": null, "title": "left out"}',
        "",
        '{"id": "b", "text": "second text", "tags": "y", "more": 1}',
    ]
    (tmp_path / "docs.jsonl").write_text("\n".join(lines))
    assert read(tmp_path / "docs.jsonl", Columns()) == [
        {"id": "a", "text": "first text", "title": "One", "tags": '["x"]'},
        {"id": "b", "text": "second text", "title": None, "tags": '"y"'},
    ]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_delimited_keeps_columns(tmp_path: Path, ending: str) -> None:
    mark = "," if ending == "csv" else "\t"
    lines = [mark.join(row) for row in (["key", "body", "title"], ["a", "one", "A"], ["b", "two"])]
    (tmp_path / f"docs.{ending}").write_text("\n".join([*lines, mark.join(["c", "three", "C"])]))
    assert read(tmp_path / f"docs.{ending}", Columns("body", "key")) == [
        {"id": "a", "body": "one", "title": "A"},
        {"id": "c", "body": "three", "title": "C"},
    ]


def test_text_files_have_text_alone_and_numbered_ids(tmp_path: Path) -> None:
    (tmp_path / "docs.txt").write_text("one\n\ntwo\n")
    assert read(tmp_path / "docs.txt", Columns()) == [
        {"id": "docs.txt:0", "text": "one"},
        {"id": "docs.txt:1", "text": "two"},
    ]
