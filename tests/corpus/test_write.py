"""The rules of resuming, held against every moment at which a job can die."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybert.artifacts import Folder, Manifest, read_manifest, read_table, read_tables
from raybert.corpus import (
    Columns,
    Plan,
    cut_into_pieces,
    find_files,
    finish_embeddings,
    finished_plan,
    plan_shards,
    refuse_above,
    scan_corpus,
)
from raybert.corpus.plan import reading_units
from raybert.corpus.reuse import EncodedRows
from raybert.corpus.steps import ReadShards, WriteShard
from raybert.errors import ArtifactError, InputError

WriteCorpus = Callable[..., Path]


class Died(BaseException):
    """The process is gone."""


def encode(out: Path, corpus: Path, model: Any, allowed: int = 0, context: str = "c") -> Manifest:
    """Run the whole job in this process: the same steps that Ray carries."""
    scan = scan_corpus(cut_into_pieces(find_files([str(corpus)])), Columns())
    refuse_above(scan.rejected, allowed)
    folder = Folder(out)
    plan = plan_shards(folder, scan, context, 4)
    if (done := finished_plan(folder, plan)) is not None:
        return done
    receipts = list(plan.receipts.values())
    read = ReadShards(Columns(), context, model.tokenize, EncodedRows(folder, plan.earlier))
    write = WriteShard(folder, model, plan.id)
    for unit in reading_units(plan.open_shards):
        receipts += [write(rows) for rows in read(unit)]
    refuse_above([bad for receipt in receipts for bad in receipt.rejected], allowed)
    return finish_embeddings(
        folder, plan, receipts, scan.rejected, settings={}, inputs=(), mlflow_run=None
    )


def content(out: Path) -> pa.Table:
    return pa.concat_tables(read_tables(Folder(out), read_manifest(out)))


def corpus_rows(count: int = 30) -> list[tuple[Any, Any]]:
    return [(f"d{number}", f"text {number} " * (number % 5 + 1)) for number in range(count)]


def test_an_encoding_holds_each_row_in_order(
    tmp_path: Path, write_corpus: WriteCorpus, letter_model: Any
) -> None:
    manifest = encode(tmp_path / "out", write_corpus("parquet", corpus_rows()), letter_model)
    table = content(tmp_path / "out")
    assert table.column_names == ["id", "vector", "content"]
    assert table["id"].to_pylist() == [key for key, _ in corpus_rows()]
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 4)
    assert manifest.rows == 30
    assert manifest.details["dimension"] == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "shards"]


def test_rerunning_a_finished_job_encodes_nothing(
    tmp_path: Path, write_corpus: WriteCorpus, letter_model: Any
) -> None:
    corpus = write_corpus("jsonl", corpus_rows())
    first = encode(tmp_path / "out", corpus, letter_model)
    assert encode(tmp_path / "out", corpus, letter_model) == first
    assert letter_model.encoded == 30


@pytest.mark.parametrize("writes", range(0, 17, 2))
def test_a_job_killed_at_any_write_resumes_to_the_same_artifact(
    tmp_path: Path,
    write_corpus: WriteCorpus,
    letter_model: Any,
    monkeypatch: pytest.MonkeyPatch,
    writes: int,
) -> None:
    corpus = write_corpus("parquet", corpus_rows())
    clean = encode(tmp_path / "clean", corpus, letter_model)
    letter_model.encoded = 0
    left = writes
    write_bytes = Folder.write_bytes

    def dies(self: Folder, name: str, data: bytes) -> None:
        nonlocal left
        if left == 0:
            raise Died
        left -= 1
        write_bytes(self, name, data)

    monkeypatch.setattr(Folder, "write_bytes", dies)
    with pytest.raises(Died):
        encode(tmp_path / "out", corpus, letter_model)
    monkeypatch.undo()
    assert not (tmp_path / "out" / "manifest.json").exists()
    resumed = encode(tmp_path / "out", corpus, letter_model)
    assert letter_model.encoded <= 30 + 4
    assert resumed.shards == clean.shards
    assert resumed.fingerprint == clean.fingerprint
    assert content(tmp_path / "out").equals(content(tmp_path / "clean"))


def test_only_changed_rows_are_encoded_again(
    tmp_path: Path, write_corpus: WriteCorpus, letter_model: Any
) -> None:
    rows = corpus_rows(100)
    encode(tmp_path / "out", write_corpus("jsonl", rows), letter_model)
    letter_model.encoded = 0
    changed = [("d17", "changed") if key == "d17" else (key, text) for key, text in rows]
    changed = [("first", "a new first row"), *changed, ("last", "a new last row")]
    corpus = write_corpus("jsonl", changed)
    encode(tmp_path / "out", corpus, letter_model)
    assert letter_model.encoded == 3
    encode(tmp_path / "clean", corpus, letter_model)
    assert content(tmp_path / "out").equals(content(tmp_path / "clean"))
    files = {f"shards/{path.name}" for path in (tmp_path / "out" / "shards").iterdir()}
    assert files == {shard.file for shard in read_manifest(tmp_path / "out").shards}


def test_another_context_encodes_everything(
    tmp_path: Path, write_corpus: WriteCorpus, letter_model: Any
) -> None:
    corpus = write_corpus("jsonl", corpus_rows())
    encode(tmp_path / "out", corpus, letter_model)
    encode(tmp_path / "out", corpus, letter_model, context="another prompt")
    assert letter_model.encoded == 60


def test_an_unfinished_job_on_a_changed_corpus_keeps_what_it_has(
    tmp_path: Path,
    write_corpus: WriteCorpus,
    letter_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = corpus_rows()
    monkeypatch.setattr("raybert.corpus.steps._table", _dying_after(5))
    with pytest.raises(Died):
        encode(tmp_path / "out", write_corpus("jsonl", rows), letter_model)
    monkeypatch.undo()
    letter_model.encoded = 0
    corpus = write_corpus("jsonl", [("new", "row"), *rows])
    encode(tmp_path / "out", corpus, letter_model)
    assert letter_model.encoded == 31 - 5 * 4
    assert content(tmp_path / "out")["id"].to_pylist() == ["new", *(key for key, _ in rows)]


def _dying_after(calls: int) -> Callable[..., Any]:
    from raybert.corpus import steps

    table = steps._table
    left = calls

    def dies(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Died
        return table(*arguments)

    return dies


def test_rejected_rows_are_written_with_their_reasons(
    tmp_path: Path, write_corpus: WriteCorpus, letter_model: Any
) -> None:
    rows = [*corpus_rows(6), ("bad", None), ("d0", "again"), ("p", "poison")]
    corpus = write_corpus("jsonl", rows)
    with pytest.raises(InputError, match=r"the first: .*row 6 \(id 'bad'\): null text"):
        encode(tmp_path / "out", corpus, letter_model, allowed=1)
    with pytest.raises(InputError, match=r"shard 0 \(id 'p'\): the model gives no finite vector"):
        encode(tmp_path / "strict", write_corpus("jsonl", [("p", "poison")] * 1), letter_model)
    manifest = encode(tmp_path / "out", write_corpus("jsonl", rows), letter_model, allowed=3)
    assert manifest.rows == 6
    assert manifest.details["rejected"] == 3
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [(bad["id"], bad["reason"].split(",")[0]) for bad in rejected] == [
        ("bad", "null text"),
        ("d0", "duplicate id"),
        ("p", "the model gives no finite vector"),
    ]
    assert "poison" not in content(tmp_path / "out")["id"].to_pylist()


def test_a_corpus_that_changes_under_the_job_is_noticed(
    tmp_path: Path, write_corpus: WriteCorpus, letter_model: Any
) -> None:
    path = write_corpus("jsonl", corpus_rows())
    scan = scan_corpus(cut_into_pieces(find_files([str(path)])), Columns())
    plan: Plan = plan_shards(Folder(tmp_path / "out"), scan, "c", 4)
    path.write_text(path.read_text()[:200])
    read = ReadShards(Columns(), "c", letter_model.tokenize)
    (unit,) = reading_units(plan.shards)
    with pytest.raises(ArtifactError, match="changed while the job ran"):
        list(read(unit))


def test_a_damaged_earlier_shard_is_named(
    tmp_path: Path, write_corpus: WriteCorpus, letter_model: Any
) -> None:
    encode(tmp_path / "out", write_corpus("jsonl", corpus_rows()), letter_model)
    shard = read_manifest(tmp_path / "out").shards[2]
    path = tmp_path / "out" / shard.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"00002\.parquet: damaged"):
        encode(tmp_path / "out", write_corpus("jsonl", corpus_rows(31)), letter_model)
    with pytest.raises(ArtifactError, match=r"00002\.parquet: damaged"):
        read_table(Folder(tmp_path / "out"), shard)
