from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from raybert.artifacts import read_manifest
from raybert.errors import InputError

Load = Callable[[str], ModuleType]
pytestmark = pytest.mark.usefixtures("ray_session")


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
    assert (tmp_path / "out" / "map.png").read_bytes()[:4] == b"\x89PNG"
    page = (tmp_path / "out" / "map.html").read_text(encoding="utf-8")
    assert described[0]["words"].popitem()[0] in page
    assert "| cluster | texts | words |" in (tmp_path / "out" / "report.md").read_text()
    capsys.readouterr()
    job.main(settings(job, demo, tmp_path / "out", **how))
    assert "nothing to do" in capsys.readouterr().out


def test_kmeans_needs_a_number(load_job: Load, demo: Any, tmp_path: Path) -> None:
    job = load_job("cluster_corpus")
    with pytest.raises(InputError, match="clusters 0: 1 to 150"):
        job.main(settings(job, demo, tmp_path / "out"))


def test_labels_judge_the_clusters(load_job: Load, demo: Any, tmp_path: Path) -> None:
    job = load_job("cluster_corpus")
    rows = pq.read_table(demo.docs)
    kinds = [identifier.split(":")[0][:2] for identifier in rows["id"].to_pylist()]
    pq.write_table(rows.append_column("kind", [kinds]), tmp_path / "labelled.parquet")
    how = {"method": "topics", "clusters": 5, "label_column": "kind"}
    corpus = str(tmp_path / "labelled.parquet")
    job.main(settings(job, demo, tmp_path / "out", corpus=corpus, **how))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {"silhouette", "nmi", "ari", "v_measure"} <= set(report["quality"])
    assert 0 <= report["quality"]["nmi"] <= 1
