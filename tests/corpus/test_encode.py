"""The steps carried by Ray: real model, real actors, one of them killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from raybert import DenseEncoder
from raybert.artifacts import Folder, fingerprint_folder, read_table
from raybert.corpus import (
    Columns,
    Encoding,
    Plan,
    Receipt,
    cut_into_pieces,
    encode,
    encode_shards,
    find_files,
    plan_shards,
    scan_corpus,
    scan_pieces,
    share_out,
)
from raybert.errors import ArtifactError, ModelError

WriteCorpus = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("ray_session")


def texts(count: int) -> list[tuple[str, str]]:
    return [(f"d{n}", f"row {n} tells of " + "embeddings " * (n % 40)) for n in range(count)]


@pytest.fixture
def encoding(minilm: Path) -> Encoding:
    return Encoding(model=str(minilm), model_fingerprint=fingerprint_folder(minilm), device="cpu")


def planned(corpus: Path, out: Path, encoding: Encoding, rows: int) -> Plan:
    scan = scan_corpus(cut_into_pieces(find_files([str(corpus)])), Columns(), scan_pieces)
    return plan_shards(Folder(out), scan, encoding.context, rows)


def table_of(out: Path, receipts: list[Receipt]) -> pa.Table:
    in_order = sorted(receipts, key=lambda receipt: receipt.number)
    return pa.concat_tables(read_table(Folder(out), receipt.shard) for receipt in in_order)


def test_vectors_are_those_of_the_bare_encoder(
    tmp_path: Path, write_corpus: WriteCorpus, encoding: Encoding
) -> None:
    rows = [*texts(90), ("a megabyte", "word " * 200_000), ("empty", "")]
    plan = planned(write_corpus("jsonl", rows), tmp_path / "out", encoding, 16)
    found = encode_shards(plan, Folder(tmp_path / "out"), encoding, Columns(), workers=2)
    table = table_of(tmp_path / "out", list(found))
    assert table["id"].to_pylist() == [key for key, _ in rows]
    vectors = np.array(table["vector"].to_pylist(), np.float32)
    expected = DenseEncoder(encoding.model, device="cpu").encode([text for _, text in rows])
    assert np.abs(vectors - expected).max() < 1e-5


def test_a_killed_worker_loses_nothing(
    tmp_path: Path, write_corpus: WriteCorpus, encoding: Encoding
) -> None:
    rows = texts(120)
    plan = planned(write_corpus("parquet", rows), tmp_path / "out", encoding, 10)
    stream = encode_shards(plan, Folder(tmp_path / "out"), encoding, Columns(), workers=1)
    receipts = list(_with_a_kill(stream))
    assert sorted(receipt.number for receipt in receipts) == list(range(12))
    assert sum(receipt.encoded for receipt in receipts) == 120
    ids = table_of(tmp_path / "out", receipts)["id"].to_pylist()
    assert ids == [key for key, _ in rows]


def _with_a_kill(stream: Iterator[Receipt]) -> Iterator[Receipt]:
    """Pass receipts on; after the first, kill -9 the worker that wrote it."""
    yield next(stream)
    children = psutil.Process().children(recursive=True)
    workers = [child for child in children if "MapBatches(_Worker)" in " ".join(child.cmdline())]
    assert workers, "no encoding worker is alive"
    for worker in workers:
        worker.kill()
    yield from stream


def test_a_fault_on_a_worker_is_told_as_our_own(
    tmp_path: Path, write_corpus: WriteCorpus, encoding: Encoding
) -> None:
    plan = planned(write_corpus("jsonl", texts(4)), tmp_path / "out", encoding, 2)
    gone = Encoding(model=str(tmp_path / "gone"), model_fingerprint="x", device="cpu")
    with pytest.raises(ModelError, match="gone"):
        list(encode_shards(plan, Folder(tmp_path / "out"), gone, Columns(), workers=1))


def test_a_fault_of_writing_is_told_as_our_own(
    tmp_path: Path, write_corpus: WriteCorpus, encoding: Encoding
) -> None:
    plan = planned(write_corpus("jsonl", texts(4)), tmp_path / "out", encoding, 2)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "shards").write_text("no folder")
    with pytest.raises(ArtifactError, match=r"shards/0000.*cannot be written"):
        list(encode_shards(plan, Folder(tmp_path / "out"), encoding, Columns(), workers=1))


def test_workers_with_a_gpu_leave_every_core_to_reading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write_corpus: WriteCorpus, encoding: Encoding
) -> None:
    """No GPU is here: what is asked of eight is looked at, and that Ray Data takes it."""
    monkeypatch.setattr(encode, "cluster_size", lambda: (8.0, 8))
    plan = planned(write_corpus("jsonl", texts(4)), tmp_path / "out", encoding, 2)
    on_gpus = replace(encoding, device="auto")
    work = encode._Work(on_gpus, Columns(), str(tmp_path / "out"), plan.id)
    assert encode._resources(on_gpus, 8) == {"num_gpus": 1, "num_cpus": 0}
    assert "MapBatches(_Worker)" in str(encode._dataset(work, [tuple(plan.shards)], 8))


@pytest.mark.parametrize(
    ("cpus", "workers", "asked"), [(1, 1, 0.5), (2, 2, 0.5), (3, 2, 1), (2, 1, 1), (1, 99, 0.01)]
)
def test_a_worker_always_asks_for_a_core_and_leaves_some_to_reading(
    monkeypatch: pytest.MonkeyPatch, encoding: Encoding, cpus: float, workers: int, asked: float
) -> None:
    """One that asks for nothing would run on a head that offers nothing."""
    monkeypatch.setattr(encode, "cluster_size", lambda: (cpus, 0))
    assert encode._resources(encoding, workers) == {"num_cpus": asked}


def test_workers_and_threads_share_the_cores() -> None:
    workers, threads = share_out(0, "cpu")
    assert workers * threads <= 4
    assert share_out(4, "cpu") == (4, 1)
