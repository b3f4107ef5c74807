from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from raybert.errors import ArtifactError, InputError
from raybert.index import Choice, build_chosen, build_index, finished_choice, open_index
from raybert.index.choice import draw_frontier

WriteEmbeddings = Callable[..., str]


def grouped(rows: int = 1500, width: int = 32) -> Any:
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((40, width))
    noise = draw.standard_normal((rows, width))
    return (centres[draw.integers(0, 40, rows)] + noise).astype(np.float32)


def test_every_kind_is_measured_and_one_that_fits_is_kept(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    embeddings, out = write_embeddings(grouped()), str(tmp_path / "index")
    choice = Choice(min_recall=0.9, max_bytes=1500 * 40)
    table = pa.table({"id": [f"d{row:06d}" for row in range(1500)], "n": range(1500)})
    manifest = build_chosen(embeddings, out, choice, documents=[table], probes=50)
    points = {point["kind"]: point for point in manifest.details["frontier"]}
    assert set(points) == {"flat", "hnsw", "ivf", "int8", "binary", "pq"}
    picked = manifest.details["kind"]
    assert picked in {"int8", "binary", "pq"}
    fitting = [p for p in points.values() if p["bytes"] <= 1500 * 40 and p["recall"] >= 0.9]
    assert points[picked]["milliseconds"] == min(p["milliseconds"] for p in fitting)
    assert not (tmp_path / "index" / "trials").exists()
    index = open_index(out)
    assert index.kind == picked
    assert index.documents.take(["d000007"]) == [{"id": "d000007", "n": 7}]
    assert build_chosen(embeddings, out, choice) == manifest
    assert finished_choice(embeddings, out, choice) == manifest
    with pytest.raises(ArtifactError, match="other settings or inputs"):
        build_chosen(embeddings, out, Choice(min_recall=0.8))


def test_no_kind_that_fits_is_told_with_what_each_measured(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    embeddings = write_embeddings(grouped(300, 8))
    with pytest.raises(InputError, match=r"no kind reaches recall@10 0\.9 in 10 bytes: flat 1\.0"):
        build_chosen(embeddings, str(tmp_path / "a"), Choice(0.9, 10), probes=20)
    with pytest.raises(InputError, match="needs probes"):
        build_chosen(embeddings, str(tmp_path / "a"), Choice(), probes=0)


def test_kinds_that_cannot_rank_by_the_metric_do_not_compete(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    embeddings = write_embeddings(grouped(300, 8), similarity="manhattan")
    manifest = build_chosen(embeddings, str(tmp_path / "index"), Choice(), probes=20)
    assert [point["kind"] for point in manifest.details["frontier"]] == ["flat"]


def test_a_range_of_rows_is_read_from_the_shards_it_lies_in(
    write_embeddings: WriteEmbeddings, tmp_path: Path
) -> None:
    embeddings = write_embeddings(grouped(100, 8), shard_rows=30)
    plain = build_index(embeddings, str(tmp_path / "a"), shards=7)
    turned = build_index(
        embeddings,
        str(tmp_path / "b"),
        shards=7,
        each=lambda build, numbers: [build(at) for at in reversed(list(numbers))][::-1],
    )
    assert [shard.checksum for shard in plain.shards] == [s.checksum for s in turned.shards]


def test_the_picture_shows_no_recall_above_one() -> None:
    axes = Figure().add_subplot()
    tried = [{"value": 1.0, "milliseconds": 0.2}]
    draw_frontier(axes, [{"kind": "flat", "bytes_per_vector": 1536, "tried": tried}])
    least, most = axes.get_ylim()
    assert least < 1 < most
    assert max(tick for tick in axes.get_yticks() if tick <= most) == pytest.approx(1)
