"""Ranges and back end: settled once for a corpus, by one pass of the workers, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raybert import DenseEncoder
from raybert.artifacts import Folder, fingerprint_folder
from raybert.corpus import (
    Columns,
    CorpusScan,
    Encoding,
    cut_into_pieces,
    find_files,
    scan_corpus,
    scan_pieces,
    settle,
    settle_backend,
    settle_ranges,
)
from raybert.corpus.columns import open_columns
from raybert.corpus.plan import ShardPlan
from raybert.corpus.settle import CALIBRATION, SETTLED, spread
from raybert.vectors.quantization import Ranges, quantize

WriteCorpus = Callable[..., Path]
ROWS = [(f"d{n}", f"row {n} tells of " + "embeddings " * (n % 9)) for n in range(60)]


@pytest.fixture
def encoding(minilm: Path) -> Encoding:
    return Encoding(
        model=str(minilm),
        model_fingerprint=fingerprint_folder(minilm),
        device="cpu",
        precision="int8",
    )


def scanned(corpus: Path) -> CorpusScan:
    return scan_corpus(cut_into_pieces(find_files([str(corpus)])), Columns(), scan_pieces)


def settled(folder: Folder, encoding: Encoding, corpus: Path, rows: int, workers: int) -> Encoding:
    return settle_ranges(
        folder,
        encoding,
        scanned(corpus),
        Columns(),
        workers=workers,
        rows_per_shard=10,
        rows=rows,
    )


@pytest.mark.usefixtures("ray_session")
def test_ranges_are_the_corpus_own_and_are_taken_once(
    tmp_path: Path,
    write_corpus: WriteCorpus,
    encoding: Encoding,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus, folder = write_corpus("jsonl", ROWS), Folder(tmp_path / "out")
    found = settled(folder, encoding, corpus, rows=0, workers=2)
    encoder = DenseEncoder(encoding.model, device="cpu")
    vectors = encoder.encode([text for _, text in ROWS])
    assert found.ranges is not None
    low, high = (np.array(side, np.float32) for side in found.ranges)
    np.testing.assert_allclose(low, vectors.min(axis=0), atol=1e-6)
    np.testing.assert_allclose(high, vectors.max(axis=0), atol=1e-6)
    assert not (tmp_path / "out" / CALIBRATION).exists()

    monkeypatch.setattr(settle, "encode_shards", lambda *_: pytest.fail("encoded again"))
    assert settled(folder, encoding, corpus, rows=0, workers=1) == found
    more = write_corpus("jsonl", [*ROWS, ("new", "another row")], "more")
    assert settled(folder, encoding, more, rows=0, workers=1) == found

    columns = open_columns(found)
    one, _ = columns(encoder.pre([ROWS[7][1]]))
    many, _ = columns(encoder.pre([text for _, text in ROWS]))
    alone = np.array(one["vector"].to_pylist()[0])
    stored = np.array(many["vector"].to_pylist())
    expected = quantize(vectors, "int8", Ranges(low, high)).astype(int)
    # A float's last digit may tip it over the edge of a bucket, into the next one.
    for found_row, expected_row in ((alone, stored[7]), (stored, expected)):
        assert np.abs(found_row - expected_row).max() <= 1
        assert (found_row == expected_row).mean() > 0.98
    assert columns.details["ranges"] == [low.tolist(), high.tolist()]


def test_the_ranges_are_part_of_what_a_vector_depends_on(encoding: Encoding) -> None:
    ranges = ((0.0, 0.0), (1.0, 1.0))
    assert replace(encoding, ranges=ranges).context != encoding.context
    assert replace(encoding, backend="onnx").context != encoding.context
    assert replace(encoding, calibrating=True).context == encoding.context


def test_other_precisions_need_no_ranges(
    tmp_path: Path, write_corpus: WriteCorpus, encoding: Encoding
) -> None:
    plain = replace(encoding, precision="ubinary")
    corpus = write_corpus("jsonl", ROWS[:3])
    assert settled(Folder(tmp_path / "out"), plain, corpus, rows=0, workers=1) == plain
    assert not (tmp_path / "out").exists()


def test_the_chosen_back_end_is_kept(
    tmp_path: Path, encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "out")
    assert settle_backend(folder, encoding) == encoding
    assert not folder.exists(SETTLED)
    automatic = replace(encoding, backend="auto")
    assert settle_backend(folder, automatic).backend == "torch"
    monkeypatch.setattr(settle, "open_encoder", lambda *_, **__: pytest.fail("measured again"))
    assert settle_backend(folder, automatic).backend == "torch"


def test_shards_are_spread_over_the_corpus() -> None:
    shards = [ShardPlan(number, f"{number}", ()) for number in range(10)]
    assert [shard.number for shard in spread(shards, 3)] == [2, 5, 9]
    assert [shard.number for shard in spread(shards, 10)] == list(range(10))
    assert len(spread(shards, 99)) == 10
    assert [shard.number for shard in spread(shards, 1)] == [9]
