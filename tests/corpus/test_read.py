from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raybert.corpus.sources as sources
from raybert.corpus import Columns, Row, cut_into_pieces, find_files, read_rows
from raybert.errors import InputError

WriteCorpus = Callable[[str, list[tuple[Any, Any]]], Path]
TEXTS = ["plain", "ünïcode ✓", 'with "quotes"', "a, comma", "", "x" * 1_000_000]


def rows_of(path: Path, columns: Columns | None = None) -> list[Row]:
    pieces = cut_into_pieces(find_files([str(path)]))
    return [row for piece in pieces for row in read_rows(piece, columns or Columns())]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "tsv"])
def test_every_format_gives_the_same_rows(write_corpus: WriteCorpus, kind: str) -> None:
    rows = [(f"d{number}", text) for number, text in enumerate(TEXTS)]
    read = rows_of(write_corpus(kind, rows))
    assert [(row.id, row.text) for row in read] == rows
    assert all(row.reason is None for row in read)


def test_a_csv_field_may_hold_line_breaks(write_corpus: WriteCorpus) -> None:
    read = rows_of(write_corpus("csv", [("a", "two\nlines"), ("b", "one")]))
    assert [row.text for row in read] == ["two\nlines", "one"]


@pytest.mark.parametrize("size", [10, 64, 1000])
def test_rows_do_not_depend_on_where_a_file_is_cut(
    write_corpus: WriteCorpus, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    rows = [(f"d{number}", f"text number {number}") for number in range(50)]
    for kind in ("jsonl", "tsv"):
        path = write_corpus(kind, rows)
        monkeypatch.setattr(sources, "_PIECE_BYTES", size)
        assert [(row.id, row.text) for row in rows_of(path)] == rows


def test_text_files_name_rows_by_file_and_line(write_corpus: WriteCorpus) -> None:
    read = rows_of(write_corpus("txt", [("", "one"), ("", "two")]))
    assert [(row.id, row.text) for row in read] == [
        ("corpus.txt:0", "one"),
        ("corpus.txt:1", "two"),
    ]


def test_an_empty_id_column_numbers_rows(write_corpus: WriteCorpus) -> None:
    read = rows_of(write_corpus("parquet", [("a", str(n)) for n in range(20)]), Columns(id=""))
    assert [row.id for row in read] == [f"corpus.parquet:{number}" for number in range(20)]


def test_whole_numbers_are_ids(write_corpus: WriteCorpus) -> None:
    assert [row.id for row in rows_of(write_corpus("jsonl", [(7, "seven")]))] == ["7"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("a", None), "null text"),
        (("a", 3), "text is a number, not text"),
        (("a", ["x"]), "text is a list, not text"),
        ((None, "x"), "null id"),
        ((1.5, "x"), "id is a number, not text"),
        ((True, "x"), "id is a boolean, not text"),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason(
    write_corpus: WriteCorpus, row: tuple[Any, Any], reason: str
) -> None:
    good = ("good", "text")
    read = rows_of(write_corpus("jsonl", [good, row, ("last", "text")]))
    assert [item.reason for item in read] == [None, reason, None]


def test_undecodable_lines_are_rejected_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"id": "a", "text": "x"}\n{"id": "b", "te\n\n[1]\n{"id":"c","text":"\xff"}\n'
    )
    reasons = [row.reason or "" for row in rows_of(path)]
    assert reasons[0] == ""
    assert reasons[1].startswith("undecodable line")
    assert reasons[2] == "line holds a list, not an object"
    assert reasons[3].startswith("undecodable line")


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt"])
def test_wrong_utf8_is_rejected(tmp_path: Path, kind: str) -> None:
    comma = b"," if kind == "csv" else b"\t"
    path = tmp_path / f"a.{kind}"
    head = b"" if kind == "txt" else b"id" + comma + b"text\n"
    line = b"ca\xff\xfe\n" if kind == "txt" else b"a" + comma + b"ca\xff\xfe\n"
    path.write_bytes(head + line)
    assert [row.reason for row in rows_of(path)] == ["text is not valid UTF-8"]


def test_wrong_utf8_in_parquet_is_rejected(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 2, pa.array([b"fine", b"ca\xff\xfe"], pa.binary()).buffers()
    )
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "text": broken}), path)
    assert [row.reason for row in rows_of(path)] == [None, "text is not valid UTF-8"]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "tsv"])
def test_a_missing_column_lists_those_there_are(write_corpus: WriteCorpus, kind: str) -> None:
    path = write_corpus(kind, [("a", "x")])
    message = r"no column 'body' for --text-column; the columns are id, text"
    with pytest.raises(InputError, match=message):
        rows_of(path, Columns(text="body"))
    with pytest.raises(InputError, match="no column 'key' for --id-column"):
        rows_of(path, Columns(id="key"))


def test_a_line_with_too_few_fields_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\na\tx\nb\nc\ty\n")
    assert [row.reason for row in rows_of(path)] == [
        None,
        "undecodable line: 1 fields, the header has 2",
        None,
    ]
