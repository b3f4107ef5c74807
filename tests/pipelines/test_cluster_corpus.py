from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from raybert.artifacts import read_manifest
from raybert.errors import InputError

Load = Callable[[str], ModuleType]


def settings(job: ModuleType, demo: Any, out: Path, **more: Any) -> Any:
    return job.ClusterCorpus(
        embeddings=str(demo.embeddings), out=str(out), tracking_uri="none", **more
    )


@pytest.mark.parametrize(
    "how",
    [
        {"method": "kmeans", "clusters": 4},
        {"method": "mini-batch-kmeans", "clusters": 4},
        {"method": "agglomerative", "clusters": 4},
        {"method": "communities", "threshold": 0.4, "min_size": 4},
    ],
    ids=lambda how: how["method"],
)
def test_every_method_gives_rows_clusters_and_clusters_words(
    load_job: Load,
    demo: Any,
    tmp_path: Path,
    how: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = load_job("cluster_corpus")
    job.main(settings(job, demo, tmp_path / "out", **how))
    table = pq.read_table(tmp_path / "out" / "shards" / "00000.parquet")
    rows = pq.read_table(demo.docs)
    assert table["id"].to_pylist() == rows["id"].to_pylist()
    described = read_manifest(str(tmp_path / "out"), kind="clusters").details["clusters"]
    labels = table["cluster"].to_pylist()
    assert [c["size"] for c in described] == [labels.count(c["number"]) for c in described]
    assert len(described) >= 2
    by_id = dict(zip(table["id"].to_pylist(), labels, strict=True))
    for cluster in described:
        assert cluster["words"]
        assert {by_id[identifier] for identifier in cluster["examples"]} == {cluster["number"]}
    capsys.readouterr()
    job.main(settings(job, demo, tmp_path / "out", **how))
    assert "nothing to do" in capsys.readouterr().out


def test_kmeans_needs_a_number(load_job: Load, demo: Any, tmp_path: Path) -> None:
    job = load_job("cluster_corpus")
    with pytest.raises(InputError, match="clusters 0: 1 to 150"):
        job.main(settings(job, demo, tmp_path / "out"))
