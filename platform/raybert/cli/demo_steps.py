"""The demo's jobs: which file, which settings, and what to say of the artifact."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from raybert.settings import home

if TYPE_CHECKING:
    from raybert.artifacts import Manifest

EXPERIMENT = "demo"


@dataclass(frozen=True, slots=True)
class Step:
    """One job of the demo.

    Args:
        name: what it does.
        file: the job file.
        arguments: its settings, beside `--out` and `--experiment`.
        out: its artifact.
        reads: files of the checkout it reads.
        summary: what to say of the finished artifact.
    """

    name: str
    file: Path
    arguments: tuple[str, ...]
    out: Path
    reads: tuple[Path, ...]
    summary: Callable[[Manifest], str]


def demo_steps(root: Path, model: Path) -> list[Step]:
    """Return the jobs in order: encode, index, search, evaluate."""
    data, out, pipelines = root / "data" / "demo", home() / "demo", root / "pipelines"
    docs, queries, qrels = data / "docs.parquet", data / "queries.parquet", data / "qrels.tsv"
    embeddings, index, run = out / "embeddings", out / "index", out / "run"
    return [
        Step(
            "encode",
            pipelines / "encode_corpus.py",
            ("--corpus", str(docs), "--model", str(model), "--rows-per-shard", "512"),
            embeddings,
            (docs,),
            lambda made: f"{made.rows:,} sections of two manuals with all-MiniLM-L6-v2",
        ),
        Step(
            "index",
            pipelines / "build_index.py",
            ("--embeddings", str(embeddings)),
            index,
            (docs,),
            lambda made: f"{made.rows:,} vectors of {made.details['dimension']} numbers, exact",
        ),
        Step(
            "search",
            pipelines / "search_corpus.py",
            ("--queries", str(queries), "--index", str(index)),
            run,
            (docs, queries),
            lambda made: f"the best 100 sections for each question, {made.rows:,} hits",
        ),
        Step(
            "evaluate",
            pipelines / "evaluate.py",
            ("--run", str(run), "--qrels", str(qrels)),
            out / "report",
            (docs, queries, qrels),
            _figures,
        ),
    ]


def finished_step(step: Step) -> Manifest | None:
    """Return the manifest of a step's artifact, if it is finished and newer than what it reads."""
    from raybert.artifacts import Folder, finished

    manifest = finished(Folder(str(step.out)))
    if manifest is None:
        return None
    made = datetime.fromisoformat(manifest.created).timestamp()
    return manifest if all(file.stat().st_mtime <= made + 1 for file in step.reads) else None


def forget(step: Step) -> None:
    """Remove what an earlier demo made of other inputs; an encoding resumes and is kept."""
    if step.name != "encode":
        shutil.rmtree(step.out, ignore_errors=True)


def _figures(made: Manifest) -> str:
    """Say the three figures people compare retrievers by."""
    metrics: dict[str, float] = made.details["metrics"]
    figures = (("nDCG@10", "ndcg@10"), ("MRR@10", "mrr@10"), ("Recall@10", "recall@10"))
    said = "  ".join(f"{name} [bold green]{metrics[key]:.3f}[/]" for name, key in figures)
    return f"{made.rows:,} questions with known answers: {said}"
