from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import ir_measures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ir_measures import RR, R, nDCG

from raybert.artifacts import lineage
from raybert.errors import ArtifactError, SettingsError
from raybert.evaluation import read_run
from raybert.index import build_index

Load = Callable[[str], ModuleType]


@pytest.fixture(scope="session")
def run(load_job: Load, demo: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run over the small corpus."""
    folder = tmp_path_factory.mktemp("runs")
    build_index(str(demo.embeddings), str(folder / "index"))
    job = load_job("search_corpus")
    settings = job.SearchCorpus(
        queries=[str(demo.queries)],
        index=[str(folder / "index")],
        out=str(folder / "run"),
        tracking_uri="none",
        device="cpu",
    )
    return str(job.main(settings))


def settings(job: ModuleType, demo: Any, out: Path, **more: Any) -> Any:
    return job.Evaluate(qrels=str(demo.qrels), out=str(out), tracking_uri="none", **more)


def test_report_has_the_numbers_of_ir_measures(
    load_job: Load, demo: Any, run: str, tmp_path: Path
) -> None:
    job = load_job("evaluate")
    job.main(settings(job, demo, tmp_path / "report", run=run))
    told = json.loads((tmp_path / "report" / "report.json").read_text())
    theirs = ir_measures.calc_aggregate(
        [nDCG @ 10, RR @ 10, R @ 5],
        list(ir_measures.read_trec_qrels(str(demo.qrels))),
        list(ir_measures.read_trec_run(f"{run}/run.trec")),
    )
    metrics = told["metrics"]
    assert metrics["ndcg@10"] == pytest.approx(theirs[nDCG @ 10], abs=1e-6)
    assert metrics["mrr@10"] == pytest.approx(theirs[RR @ 10], abs=1e-6)
    assert metrics["recall@5"] == pytest.approx(theirs[R @ 5], abs=1e-6)
    assert told["rows"] == 40
    assert metrics["ndcg@10"] > 0.5
    assert len(list((tmp_path / "report" / "plots").iterdir())) == 4
    kinds = [node.input.kind for node in lineage(str(tmp_path / "report")).inputs]
    assert kinds == ["qrels", "run"]


def test_a_model_measured_on_the_spot_gives_the_same_numbers(
    load_job: Load,
    demo: Any,
    run: str,
    minilm: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = load_job("evaluate")
    job.main(settings(job, demo, tmp_path / "one", run=run))
    assert "Batches" not in capsys.readouterr().err
    job.main(
        settings(
            job,
            demo,
            tmp_path / "two",
            model=str(minilm),
            queries=[str(demo.queries)],
            corpus=[str(demo.docs)],
            device="cpu",
        )
    )
    assert capsys.readouterr().err.count("Batches") == 2  # of queries, of the corpus
    one, two = (
        json.loads((tmp_path / name / "report.json").read_text())["metrics"]
        for name in ("one", "two")
    )
    assert two == pytest.approx(one, abs=1e-6)
    assert read_run(run)[0].hits


def test_labelled_pairs_are_measured_on_the_spot(
    load_job: Load, minilm: Path, tmp_path: Path
) -> None:
    job = load_job("evaluate")
    texts = ["a cat", "a kitten", "the sea", "an ocean"]
    rows = [(one, other, int(i // 2 == j // 2)) for i, one in enumerate(texts)
            for j, other in enumerate(texts) if i < j]  # fmt: skip
    left, right, labels = (list(column) for column in zip(*rows, strict=True))
    table = pa.table({"one": left, "other": right, "label": labels})
    pq.write_table(table, tmp_path / "pairs.parquet")
    asked = {"model": str(minilm), "out": str(tmp_path / "report"), "tracking_uri": "none"}
    pairs = [str(tmp_path / "pairs.parquet")]
    job.main(job.Evaluate(pairs=pairs, device="cpu", **asked))
    told = json.loads((tmp_path / "report" / "report.json").read_text())
    assert told["rows"] == 6
    assert told["metrics"]["ap"] == 1.0
    assert (tmp_path / "report" / "plots" / "scores.png").exists()
    with pytest.raises(SettingsError, match="neither --qrels nor --run"):
        job.main(job.Evaluate(pairs=pairs, qrels="q.tsv", **asked))
    with pytest.raises(SettingsError, match="--qrels is needed, or --pairs"):
        job.main(job.Evaluate(**asked))


def test_second_run_does_nothing_and_says_so(
    load_job: Load, demo: Any, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = load_job("evaluate")
    job.main(settings(job, demo, tmp_path / "report", run=run))
    job.main(settings(job, demo, tmp_path / "report", run=run))
    assert "nothing to do: measured already" in capsys.readouterr().out
    (tmp_path / "other.tsv").write_text("q000\t0\tnothing\t1\n")
    with pytest.raises(ArtifactError, match="something else"):
        job.main(
            job.Evaluate(
                qrels=str(tmp_path / "other.tsv"),
                run=run,
                out=str(tmp_path / "report"),
                tracking_uri="none",
            )
        )


def test_what_to_measure_must_be_clear(load_job: Load, demo: Any, run: str, tmp_path: Path) -> None:
    job = load_job("evaluate")
    for more in ({}, {"run": run, "model": "m"}, {"model": "m", "queries": ["q"]}):
        with pytest.raises(SettingsError, match="either --run, or --model with"):
            job.main(settings(job, demo, tmp_path / "report", **more))
