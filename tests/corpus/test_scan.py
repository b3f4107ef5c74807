from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash

import raybert.corpus.scan as scan_module
from raybert.corpus import (
    Columns,
    CorpusScan,
    cut_into_pieces,
    find_files,
    refuse_above,
    scan_corpus,
)
from raybert.errors import InputError

WriteCorpus = Callable[..., Path]


def scan_of(*paths: Path) -> CorpusScan:
    return scan_corpus(cut_into_pieces(find_files([str(path) for path in paths])), Columns())


def test_counts_rows_and_lists_bad_ones_in_order(write_corpus: WriteCorpus) -> None:
    rows: list[tuple[Any, Any]] = [("a", "x"), ("b", None), ("a", "again"), ("c", "y"), (None, "z")]
    scan = scan_of(write_corpus("jsonl", rows))
    assert scan.rows == 5
    assert scan.good_rows == 2
    assert [(bad.row, bad.id, bad.reason.split(",")[0]) for bad in scan.rejected] == [
        (1, "b", "null text"),
        (2, "a", "duplicate id"),
        (4, "", "null id"),
    ]


def test_duplicates_across_files_keep_the_first(write_corpus: WriteCorpus) -> None:
    one = write_corpus("parquet", [(f"d{n}", "x") for n in range(20)], name="one")
    two = write_corpus("jsonl", [("d19", "y"), ("new", "z")], name="two")
    (bad,) = scan_of(one, two).rejected
    assert bad.file.endswith("two.jsonl")
    assert "first seen in" in bad.reason
    assert "one.parquet, row 19" in bad.reason


def test_two_ids_with_one_hash_are_two_ids(
    write_corpus: WriteCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", lambda _: 42)
    assert scan_of(write_corpus("jsonl", [("a", "x"), ("b", "y")])).rejected == []
    assert len(scan_of(write_corpus("jsonl", [("a", "x"), ("b", "y"), ("a", "z")])).rejected) == 1


def test_the_fingerprint_is_of_ids_and_texts(write_corpus: WriteCorpus) -> None:
    rows = [("a", "x"), ("b", "y")]
    first = scan_of(write_corpus("jsonl", rows)).fingerprint
    assert scan_of(write_corpus("csv", rows)).fingerprint == first
    assert scan_of(write_corpus("jsonl", [("a", "x"), ("b", "z")])).fingerprint != first
    assert scan_of(write_corpus("jsonl", rows[::-1])).fingerprint != first


def test_an_empty_corpus_is_refused(write_corpus: WriteCorpus) -> None:
    with pytest.raises(InputError, match="the corpus is empty"):
        scan_of(write_corpus("jsonl", []))


def test_more_bad_rows_than_allowed_stop_the_job(write_corpus: WriteCorpus) -> None:
    bad = scan_of(write_corpus("jsonl", [("a", None), ("b", 1), ("c", "x")])).rejected
    refuse_above(bad, 2)
    with pytest.raises(
        InputError, match=r"2 rejected row\(s\), --max-rejected allows 1.*row 0 \(id 'a'\): null"
    ):
        refuse_above(bad, 1)


def test_the_scan_is_a_step_that_can_run_anywhere(write_corpus: WriteCorpus) -> None:
    pieces = cut_into_pieces(find_files([str(write_corpus("parquet", [("a", "x")] * 20))]))
    step = scan_module.ScanPiece(Columns())
    assert [step(piece).rows for piece in pieces] == [7, 7, 6]
