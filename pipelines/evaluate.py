"""Evaluate: a run and judgements in, a report out; or a model, measured on the spot.

python pipelines/evaluate.py --run artifacts/demo/run --qrels data/demo/qrels.tsv \
        --out artifacts/demo/report
python pipelines/evaluate.py --model all-MiniLM-L6-v2 --queries data/demo/queries.parquet \
        --corpus data/demo/docs.parquet --qrels data/demo/qrels.tsv --out artifacts/demo/report
python pipelines/evaluate.py --model artifacts/reranker --pairs pairs.parquet --out report
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raybert.artifacts import (
    Folder,
    Input,
    fingerprint,
    finished,
    read_manifest,
)
from raybert.corpus import Columns
from raybert.corpus.texts import read_texts
from raybert.encoders import open_encoder
from raybert.errors import ArtifactError, SettingsError
from raybert.evaluation import (
    InformationRetrievalEvaluator,
    Plot,
    hit_score_plot,
    judge_rankings,
    measure,
    pair_report,
    query_table,
    ranking_plots,
    read_qrels,
    read_run,
    write_report,
)
from raybert.modules import locate_model
from raybert.records import Ranking
from raybert.settings import JobSettings, Names, run_job
from raybert.tracking import job
from raybert.training.evaluators import read_pairs

Found = tuple[dict[str, float], int, list[Plot], dict[str, Any]]
"""Metrics, how many rows they were measured on, pictures, and tables behind them."""
Measure = Callable[[], Found]


class Evaluate(JobSettings):
    """Evaluate: a run and judgements in, a report out; or a model, on the spot."""

    qrels: str | None = None
    """Judgements: TREC qrels, BEIR's table, or Parquet (query_id, doc_id, relevance)."""
    run: str | None = None
    """Folder of a run artifact, as search_corpus writes it."""
    model: str | None = None
    """Instead of a run: model folder to encode queries and corpus with."""
    queries: Names | None = None
    """Files of queries, with --model."""
    corpus: Names | None = None
    """Files of documents, with --model."""
    pairs: Names | None = None
    """Instead of retrieval, with --model: files of two text columns and a label 0 or 1."""
    text_column: str = "text"
    """Column that holds the text, in both."""
    id_column: str = "id"
    """Column that holds the id, in both."""
    device: str = "auto"
    """auto, cpu or cuda, with --model."""


def main(settings: Evaluate) -> str:
    """Measure; returns where the report lies."""
    inputs, measured = _of_pairs(settings) if settings.pairs else _of_retrieval(settings)
    folder = Folder(settings.out)
    if (done := finished(folder)) is not None:
        if done.kind != "report" or done.inputs != tuple(inputs):
            raise ArtifactError(f"{folder}: holds something else that is finished")
        print(f"nothing to do: measured already\n{_summary(done.details['metrics'])}")
        return settings.out

    with job(settings, name=f"evaluate {Path(settings.out).name}", kind="evaluate") as run:
        for item in inputs:
            run.input(item.kind, item.uri, item.fingerprint)
        metrics, rows, plots, tables = measured()
        kind = "Pairs" if settings.pairs else "Retrieval"
        write_report(
            settings.out,
            metrics,
            title=f"{kind} of {settings.run or settings.model}",
            rows=rows,
            plots=plots,
            tables=tables,
            settings=settings.model_dump(mode="json"),
            inputs=inputs,
            mlflow_run=run.run_id,
        )
        run.metrics({name.replace("@", "_at_"): value for name, value in metrics.items()})
        if folder.local is not None:
            run.artifact(folder.local, "report")
    print(_summary(metrics))
    return settings.out


def _of_pairs(settings: Evaluate) -> tuple[list[Input], Measure]:
    """Return labelled pairs and their model, and how to measure it.

    Raises:
        SettingsError: no model is given, or retrieval is asked for too.
        InputError: there are not two text columns and a label.
    """
    if settings.model is None or settings.qrels or settings.run:
        raise SettingsError("--pairs: give --model too, and neither --qrels nor --run")
    left, right, labels, mark = read_pairs(settings.pairs or [])
    encoder: Any = open_encoder(locate_model(settings.model), device=settings.device)

    def measured() -> Found:
        metrics, plots = pair_report(encoder, left, right, labels)
        return metrics, len(left), plots, {}

    return [
        Input(kind="model", uri=settings.model, fingerprint=encoder.fingerprint),
        Input(kind="pairs", uri=",".join(settings.pairs or []), fingerprint=mark),
    ], measured


def _of_retrieval(settings: Evaluate) -> tuple[list[Input], Measure]:
    """Return judgements and what they judge, and how to measure it.

    Raises:
        SettingsError: there are no judgements.
    """
    if settings.qrels is None:
        raise SettingsError("--qrels is needed, or --pairs")
    qrels = read_qrels(settings.qrels)
    inputs, rankings = _source(settings, qrels)

    def measured() -> Found:
        found = rankings()
        by_query = judge_rankings(found, qrels)
        judged = list(by_query.values())
        plots = [*ranking_plots(judged), *filter(None, [hit_score_plot(found, qrels)])]
        return measure(judged), len(judged), plots, {"queries": query_table(by_query)}

    told = Input(kind="qrels", uri=settings.qrels, fingerprint=fingerprint(qrels))
    return [told, *inputs], measured


def _source(
    settings: Evaluate, qrels: dict[str, dict[str, float]]
) -> tuple[list[Input], Callable[[], list[Ranking]]]:
    """Return what is measured, and how to get its rankings.

    Raises:
        SettingsError: neither a run nor a model with queries and corpus is given, or both are.
    """
    run, model = settings.run, settings.model
    if run is not None and model is None:
        made = read_manifest(run, kind="run")
        return [Input(kind="run", uri=run, fingerprint=made.fingerprint)], lambda: read_run(run)
    if run is not None or not (model and settings.queries and settings.corpus):
        raise SettingsError("give either --run, or --model with --queries and --corpus")
    columns = Columns(settings.text_column, settings.id_column)
    queries, corpus = (read_texts(files, columns) for files in (settings.queries, settings.corpus))
    encoder: Any = open_encoder(locate_model(model), device=settings.device)
    evaluator = InformationRetrievalEvaluator(queries, corpus, qrels, show_progress_bar=True)
    named = (("queries", settings.queries, queries), ("corpus", settings.corpus, corpus))
    return [
        Input(kind="model", uri=model, fingerprint=encoder.fingerprint),
        *(
            Input(kind=kind, uri=",".join(files), fingerprint=fingerprint(texts))
            for kind, files, texts in named
        ),
    ], lambda: next(iter(evaluator.rankings(encoder).values()))


def _summary(metrics: dict[str, float]) -> str:
    chosen = ("ndcg@10", "mrr@10", "recall@10", "map@100", "accuracy@1")
    names = [name for name in chosen if name in metrics] or list(metrics)
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in names)


if __name__ == "__main__":
    run_job(Evaluate, main)
