"""The demo's jobs: which file, which settings, and what to say of the artifact."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from raybert.cli.demo_questions import Questions, split_questions
from raybert.settings import home

if TYPE_CHECKING:
    from raybert.artifacts import Manifest

EXPERIMENT = "demo"
NAME = "demo"
"""The model's name in the registry."""
TRAINED = "model"
"""Folder of the trained model."""


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
        after: the step whose artifact it needs, if it need not wait for the others before it.
    """

    name: str
    file: Path
    arguments: tuple[str, ...]
    out: Path
    reads: tuple[Path, ...]
    summary: Callable[[Manifest], str]
    after: str = ""


def demo_steps(root: Path, model: Path, steps: int) -> list[Step]:
    """Return the jobs in order: the model as it is, negatives, training, the model trained.

    Args:
        root: the checkout.
        model: folder of the model to begin with.
        steps: steps of training.
    """
    data, out = root / "data" / "demo", home() / "demo"
    learn, held_out = split_questions(data, out / "questions")
    demo = _Demo(root / "pipelines", data / "docs.parquet", held_out)
    return [
        *demo.judged(str(model), out, ""),
        *demo.trained(str(model), out, learn, steps),
        *demo.judged(str(out / TRAINED), out / "after", " 2"),
    ]


@dataclass(frozen=True, slots=True)
class _Demo:
    """What the demo's jobs have in common: job files, the corpus, the questions to judge by."""

    pipelines: Path
    docs: Path
    held_out: Questions

    def judged(self, model: str, out: Path, mark: str) -> list[Step]:
        """Return what encodes the corpus with a model, and measures how it answers."""
        embeddings, index, run = out / "embeddings", out / "index", out / "run"
        queries, qrels = self.held_out.texts, self.held_out.answers
        return [
            Step(
                f"encode{mark}",
                self.pipelines / "encode_corpus.py",
                ("--corpus", str(self.docs), "--model", model, "--rows-per-shard", "512"),
                embeddings,
                (self.docs,),
                lambda made: f"{made.rows:,} sections of two manuals",
            ),
            Step(
                f"index{mark}",
                self.pipelines / "build_index.py",
                ("--embeddings", str(embeddings)),
                index,
                (self.docs,),
                lambda made: f"{made.rows:,} vectors of {made.details['dimension']} numbers, exact",
            ),
            Step(
                f"search{mark}",
                self.pipelines / "search_corpus.py",
                ("--queries", str(queries), "--index", str(index)),
                run,
                (self.docs, queries),
                lambda made: f"the best 100 sections for each question, {made.rows:,} hits",
            ),
            Step(
                f"evaluate{mark}",
                self.pipelines / "evaluate.py",
                ("--run", str(run), "--qrels", str(qrels)),
                out / "report",
                (self.docs, queries, qrels),
                _figures,
            ),
        ]

    def trained(self, model: str, out: Path, learn: Questions, steps: int) -> list[Step]:
        """Return what mines negatives of the other questions, and trains on them."""
        pairs = out / "negatives"
        columns = ("anchor", "positive", "negative")
        return [
            Step(
                "mine",
                self.pipelines / "mine_hard_negatives.py",
                (
                    *("--queries", str(learn.texts), "--corpus", str(out / "embeddings")),
                    *("--pairs", str(learn.answers), "--model", model),
                    *("--output-format", "triplet"),
                    *("--rules.num-negatives", "1", "--rules.relative-margin", "0.05"),
                ),
                pairs,
                (self.docs, learn.texts, learn.answers),
                lambda made: f"{made.rows:,} other questions with an answer and a near miss",
                after="encode",
            ),
            Step(
                "train",
                self.pipelines / "train_dense.py",
                (
                    *("--model", model, "--data.files", str(pairs / "shards")),
                    *(f"--data.columns={name}={name}" for name in columns),
                    *("--scale.workers", "2", "--scale.device", "cpu", "--batch.size", "32"),
                    *("--schedule.max-steps", str(steps), "--schedule.learning-rate", "5e-5"),
                    *("--max-seq-length", "128", "--saving.log-every", "1"),
                    *("--saving.register-as", NAME),
                ),
                out / TRAINED,
                (self.docs, learn.texts, learn.answers),
                lambda made: (
                    f"{made.details['steps']} steps on two workers, {made.details['loss']}"
                ),
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


def forget(step: Step, *, inputs_changed: bool) -> None:
    """Remove what an earlier demo made of other inputs; the first encoding resumes and is kept.

    Args:
        step: the step.
        inputs_changed: whether a step before it ran; if not, a training goes on where it was.
    """
    if step.name == "encode":
        return
    shutil.rmtree(step.out, ignore_errors=True)
    if inputs_changed:
        shutil.rmtree(f"{step.out}.checkpoints", ignore_errors=True)


def _figures(made: Manifest) -> str:
    """Say the three figures people compare retrievers by."""
    metrics: dict[str, float] = made.details["metrics"]
    figures = (("nDCG@10", "ndcg@10"), ("MRR@10", "mrr@10"), ("Recall@10", "recall@10"))
    said = "  ".join(f"{name} [bold green]{metrics[key]:.3f}[/]" for name, key in figures)
    return f"{made.rows:,} held-out questions: {said}"
