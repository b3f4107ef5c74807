"""A report: metrics and plots as an artifact, for people and for programs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raybert.artifacts import (
    Folder,
    Input,
    Manifest,
    Shard,
    hash_bytes,
    write_manifest,
    write_table,
)
from raybert.evaluation.calibration import Calibration
from raybert.evaluation.metrics import (
    METRICS,
    Cutoffs,
    Judged,
    Metrics,
    Qrels,
    measure,
    ndcg,
    reciprocal_rank,
)
from raybert.records import Ranking

Draw = Callable[[Any], None]
"""Draws onto a matplotlib axes."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture of a report.

    Args:
        name: file name without ending.
        title: what it shows, in words.
        draw: draws it.
    """

    name: str
    title: str
    draw: Draw


def write_report(
    out: str,
    metrics: Mapping[str, float],
    *,
    title: str,
    rows: int,
    plots: Sequence[Plot] = (),
    tables: Mapping[str, pa.Table] | None = None,
    settings: Mapping[str, Any] | None = None,
    inputs: Sequence[Input] = (),
    details: Mapping[str, Any] | None = None,
    mlflow_run: str | None = None,
) -> Manifest:
    """Write `report.json`, `report.md`, `plots/*.png` and tables, then the manifest.

    Args:
        out: folder of the report.
        metrics: the numbers, by name.
        title: what was measured.
        rows: how many queries, pairs or texts it was measured on.
        plots: pictures to draw.
        tables: rows behind the numbers, written as `{name}.parquet`.
        settings: settings of the job.
        inputs: what was measured, and with what.
        details: what else a reader should know; goes into `report.json` and the manifest.
        mlflow_run: id of the job's run.
    """
    folder = Folder(out)
    told = {"title": title, "rows": rows, "metrics": dict(metrics), **(details or {})}
    files = {
        "report.json": json.dumps(told, indent=2, ensure_ascii=False).encode(),
        "report.md": _markdown(title, rows, metrics, plots, inputs).encode(),
        **{f"plots/{plot.name}.png": draw_png(plot) for plot in plots},
    }
    shards = [_write(folder, name, data, rows) for name, data in files.items()]
    for name, table in (tables or {}).items():
        shards.append(write_table(folder, f"{name}.parquet", table))
    return write_manifest(
        folder,
        Manifest(
            kind="report",
            settings=dict(settings or {}),
            rows=rows,
            inputs=tuple(inputs),
            shards=tuple(shards),
            details={"metrics": dict(metrics), **(details or {})},
            mlflow_run=mlflow_run,
        ),
    )


def query_table(judged: Mapping[str, Judged], deepest: int = 10) -> pa.Table:
    """Return every query's own metrics at `deepest`, worst nDCG first: where to look."""
    worst_first = sorted(judged, key=lambda query: ndcg(judged[query], deepest))
    columns: dict[str, list[Any]] = {"query_id": worst_first}
    for name, metric in METRICS.items():
        columns[f"{name}@{deepest}"] = [metric(judged[query], deepest) for query in worst_first]
    return pa.table(columns)


def ranking_plots(judged: Sequence[Judged], deepest: int = 10) -> list[Plot]:
    """Return the pictures of a retrieval: metrics at k, and how queries are spread."""
    cuts = list(range(1, deepest + 1))
    curves = measure(judged, Cutoffs(cuts, cuts, cuts, cuts, cuts, cuts))
    first_ranks = [reciprocal_rank(one, deepest) for one in judged]
    spread = [ndcg(one, deepest) for one in judged]

    def draw_curves(axes: Any) -> None:
        for name in ("ndcg", "recall", "accuracy", "mrr"):
            # with one relevant document a query, recall and accuracy are one curve
            style = "--" if name == "accuracy" else "-"
            values = [curves[f"{name}@{k}"] for k in cuts]
            axes.plot(cuts, values, style, marker="o", label=name)
        axes.set(xlabel="k", ylabel="mean over queries", ylim=(0, 1.02))
        axes.legend()

    def draw_ranks(axes: Any) -> None:
        places = [sum(abs(value - 1 / k) < 1e-9 for value in first_ranks) for k in cuts]
        axes.bar([str(k) for k in cuts] + [f">{deepest}"], [*places, first_ranks.count(0.0)])
        axes.set(xlabel="rank of the first relevant document", ylabel="queries")

    def draw_spread(axes: Any) -> None:
        axes.hist(spread, bins=20, range=(0, 1))
        axes.set(xlabel=f"nDCG@{deepest} of a query", ylabel="queries")

    return [
        Plot("metrics_at_k", "Metrics at k", draw_curves),
        Plot("first_relevant", "Rank of the first relevant document", draw_ranks),
        Plot("ndcg_spread", f"nDCG@{deepest} over queries", draw_spread),
    ]


def hit_score_plot(rankings: Iterable[Ranking], qrels: Qrels) -> Plot | None:
    """Return the scores of relevant and of other hits; None where one side has no hit."""
    sides: tuple[list[float], list[float]] = ([], [])
    for ranking in rankings:
        relevance = qrels.get(ranking.query_id, {})
        for hit in ranking:
            sides[relevance.get(hit.id, 0) > 0].append(hit.score)
    others, relevant = sides
    return score_plot(relevant, others) if others and relevant else None


def score_plot(positives: Sequence[float], negatives: Sequence[float]) -> Plot:
    """Return the histogram of scores of positives and of negatives."""

    def draw(axes: Any) -> None:
        bins = 40
        low, high = min([*positives, *negatives]), max([*positives, *negatives])
        span = (low, high if high > low else low + 1)
        for values, label in ((negatives, "negatives"), (positives, "positives")):
            axes.hist(values, bins=bins, range=span, alpha=0.6, density=True, label=label)
        axes.set(xlabel="score", ylabel="density")
        axes.legend()

    return Plot("scores", "Scores of positives and negatives", draw)


def calibration_plot(found: Calibration) -> Plot:
    """Return scores against the share of positives; a calibrated model lies on the diagonal."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], "--", color="grey", label="calibrated")
        axes.plot(found.scores, found.shares, marker="o", label=f"error {found.error:.3f}")
        axes.set(xlabel="score", ylabel="share of positives", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend()

    return Plot("calibration", "Calibration", draw)


def metrics_table(metrics: Metrics) -> str:
    """Return metrics as a Markdown table."""
    lines = [f"| {name} | {value:.4f} |" for name, value in metrics.items()]
    return "\n".join(["| metric | value |", "|---|---|", *lines])


def _markdown(
    title: str,
    rows: int,
    metrics: Mapping[str, float],
    plots: Sequence[Plot],
    inputs: Sequence[Input],
) -> str:
    parts = [f"# {title}", f"Measured on {rows:,} rows.", metrics_table(dict(metrics))]
    parts += [f"## {plot.title}\n\n![{plot.title}](plots/{plot.name}.png)" for plot in plots]
    if inputs:
        lines = [f"| {item.kind} | `{item.uri}` | `{item.fingerprint}` |" for item in inputs]
        parts.append(
            "\n".join(["## Inputs\n", "| kind | where | fingerprint |", "|---|---|---|", *lines])
        )
    return "\n\n".join(parts) + "\n"


def draw_png(plot: Plot) -> bytes:
    """Return a picture as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    plot.draw(axes)
    axes.set_title(plot.title)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=120)
    return sink.getvalue()


def _write(folder: Folder, name: str, data: bytes, rows: int) -> Shard:
    folder.write_bytes(name, data)
    return Shard(file=name, rows=rows, bytes=len(data), checksum=hash_bytes(data))
