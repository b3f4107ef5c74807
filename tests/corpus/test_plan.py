from collections.abc import Callable
from pathlib import Path

import pytest

from raybert.artifacts import Folder
from raybert.corpus import Columns, Plan, cut_into_pieces, find_files, plan_shards, scan_corpus
from raybert.corpus.plan import reading_units

WriteCorpus = Callable[..., Path]


def plan_of(folder: Path, *paths: Path, rows: int = 4, context: str = "c") -> Plan:
    pieces = cut_into_pieces(find_files([str(path) for path in paths]))
    return plan_shards(Folder(folder), scan_corpus(pieces, Columns()), context, rows)


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 100])
def test_shards_hold_every_good_row_once(
    tmp_path: Path, write_corpus: WriteCorpus, rows: int
) -> None:
    texts = [(f"d{n}", None if n in (0, 5, 6, 19) else "x") for n in range(20)]
    plan = plan_of(tmp_path / "out", write_corpus("parquet", texts), rows=rows)
    held = [
        (part.piece.first_row + number)
        for shard in plan.shards
        for part in shard.slices
        for number in range(part.start, part.stop)
        if number not in part.skip
    ]
    assert held == [n for n in range(20) if n not in (0, 5, 6, 19)]
    sizes = [
        sum(part.stop - part.start - len(part.skip) for part in shard.slices)
        for shard in plan.shards
    ]
    assert sizes[:-1] == [rows] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= rows


def test_a_shard_may_span_small_files(tmp_path: Path, write_corpus: WriteCorpus) -> None:
    paths = [write_corpus("txt", [("", "x")], name=f"f{n}") for n in range(5)]
    plan = plan_of(tmp_path / "out", *paths, rows=3)
    assert [len(shard.slices) for shard in plan.shards] == [3, 2]


def test_the_plan_follows_corpus_context_and_size(
    tmp_path: Path, write_corpus: WriteCorpus
) -> None:
    path = write_corpus("jsonl", [("a", "x"), ("b", "y")])
    first = plan_of(tmp_path, path).id
    assert plan_of(tmp_path, path).id == first
    assert plan_of(tmp_path, path, context="other").id != first
    assert plan_of(tmp_path, path, rows=1).id != first


def test_shards_that_begin_in_one_piece_are_read_together(
    tmp_path: Path, write_corpus: WriteCorpus
) -> None:
    path = write_corpus("parquet", [(f"d{n}", "x") for n in range(21)])
    plan = plan_of(tmp_path, path, rows=3)
    assert [[shard.number for shard in unit] for unit in reading_units(plan.shards)] == [
        [0, 1, 2],
        [3, 4],
        [5, 6],
    ]
