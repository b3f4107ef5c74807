from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybert.artifacts import lineage
from raybert.errors import ArtifactError, InputError, SettingsError
from raybert.index import open_index

Load = Callable[[str], ModuleType]


def settings(job: ModuleType, demo: Any, out: Path, **more: Any) -> Any:
    return job.BuildIndex(
        embeddings=str(demo.embeddings), out=str(out), tracking_uri="none", **more
    )


def test_index_holds_vectors_and_the_corpus_columns(
    load_job: Load, demo: Any, tmp_path: Path
) -> None:
    job = load_job("build_index")
    assert job.main(settings(job, demo, tmp_path / "index", shards=2)) == str(tmp_path / "index")
    index = open_index(str(tmp_path / "index"))
    rows = pq.read_table(demo.docs).to_pylist()
    assert len(index) == len(rows)
    assert index.documents.take([rows[7]["id"], rows[3]["id"]]) == [
        {"id": row["id"], "text": row["text"], "title": row["title"]} for row in (rows[7], rows[3])
    ]
    assert index.manifest.details["recall"]["value"] == 1.0
    assert index.manifest.settings["shards"] == 2


def test_lineage_leads_back_to_corpus_and_model(load_job: Load, demo: Any, tmp_path: Path) -> None:
    job = load_job("build_index")
    job.main(settings(job, demo, tmp_path / "index", documents=False))
    tree = lineage(str(tmp_path / "index"))
    assert [node.input.kind for node in tree.inputs] == ["embeddings", "model"]
    assert [node.input.kind for node in tree.inputs[0].inputs] == ["corpus", "model"]
    assert tree.inputs[0].state == "same"


def test_second_run_does_nothing_and_says_so(
    load_job: Load, demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = load_job("build_index")
    job.main(settings(job, demo, tmp_path / "index"))
    assert "recall@10 1.0000" in capsys.readouterr().out
    job.main(settings(job, demo, tmp_path / "index"))
    assert "nothing to do: all 150 rows are indexed already" in capsys.readouterr().out


def test_a_corpus_that_changed_since_is_refused(load_job: Load, demo: Any, tmp_path: Path) -> None:
    job = load_job("build_index")
    table = pq.read_table(demo.docs)
    texts = pa.array(["another text", *table["text"].to_pylist()[1:]])
    pq.write_table(table.set_column(2, "text", texts), tmp_path / "changed.parquet")
    with pytest.raises(ArtifactError, match=r"changed\.parquet: is not what was encoded"):
        job.main(
            settings(job, demo, tmp_path / "index", corpus=[str(tmp_path / "changed.parquet")])
        )
    shutil.copy(demo.docs, tmp_path / "moved.parquet")
    job.main(settings(job, demo, tmp_path / "index", corpus=[str(tmp_path / "moved.parquet")]))


def test_embeddings_of_another_model_are_refused(
    load_job: Load, demo: Any, tmp_path: Path, minilm: Path
) -> None:
    job = load_job("build_index")
    other = tmp_path / "model"
    other.mkdir()
    (other / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="the model asked for is"):
        job.main(settings(job, demo, tmp_path / "index", model=str(other)))
    job.main(settings(job, demo, tmp_path / "index", model=str(minilm)))


def test_bm25_is_built_from_texts_and_searched_without_a_model(
    load_job: Load, demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, out = load_job("build_index"), tmp_path / "bm25"
    given = {"corpus": [str(demo.docs)], "kind": "bm25", "shards": 2, "tracking_uri": "none"}
    job.main(job.BuildIndex(out=str(out), **given))
    assert (out / "frontier.png").read_bytes().startswith(b"\x89PNG")
    (hits,) = open_index(str(out)).search("how do I copy a list", 5)
    assert len(hits) == 5
    assert [node.input.kind for node in lineage(str(out)).inputs] == ["corpus"]
    job.main(job.BuildIndex(out=str(out), **given))
    assert "nothing to do: all 150 rows are indexed already" in capsys.readouterr().out


def test_the_fastest_kind_that_fits_is_chosen(load_job: Load, demo: Any, tmp_path: Path) -> None:
    job, out = load_job("build_index"), tmp_path / "index"
    auto = {"kind": "auto", "max_bytes": 150 * 500, "min_recall": 0.9, "probes": 40}
    job.main(settings(job, demo, out, **auto))
    details = open_index(str(out)).manifest.details
    assert details["kind"] in {"int8", "binary", "pq"}
    assert len(details["frontier"]) == 6
    assert (out / "frontier.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"kind": "bm25"}, "built from the texts of --corpus"),
        ({"embeddings": None}, "--kind flat is built from --embeddings"),
        ({"max_bytes": 5}, "--max-bytes is for --kind auto"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    load_job: Load, demo: Any, tmp_path: Path, more: dict[str, Any], says: str
) -> None:
    job = load_job("build_index")
    given = {"embeddings": str(demo.embeddings), "tracking_uri": "none", **more}
    with pytest.raises(SettingsError, match=says):
        job.main(job.BuildIndex(out=str(tmp_path / "index"), **given))


def test_unknown_settings_are_refused(load_job: Load, demo: Any, tmp_path: Path) -> None:
    job = load_job("build_index")
    with pytest.raises(InputError, match="shards 151: 1 to 150"):
        job.main(settings(job, demo, tmp_path / "index", shards=151))
    with pytest.raises(SettingsError, match="--kind 'lsh'"):
        job.BuildIndex.from_command_line(["--embeddings", "e", "--out", "o", "--kind", "lsh"])


def test_a_fault_is_one_line_and_exit_status_2(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(root / "pipelines" / "build_index.py"),
            *("--embeddings", "nowhere", "--out", str(tmp_path / "index")),
            *("--tracking-uri", "none"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert "nowhere: no such artifact" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
