"""Evaluation: metrics, evaluators for dense and sparse encoders alike, runs and reports."""

from raybert.evaluation.evaluator import Embedder, Evaluator
from raybert.evaluation.judgements import read_qrels
from raybert.evaluation.metrics import (
    METRICS,
    Cutoffs,
    Judged,
    judge,
    judge_rankings,
    measure,
    ranked,
)
from raybert.evaluation.report import (
    Plot,
    hit_score_plot,
    ranking_plots,
    score_plot,
    write_report,
)
from raybert.evaluation.retrieval import InformationRetrievalEvaluator
from raybert.evaluation.run import read_run, trec_lines, write_run

__all__ = [
    "METRICS",
    "Cutoffs",
    "Embedder",
    "Evaluator",
    "InformationRetrievalEvaluator",
    "Judged",
    "Plot",
    "hit_score_plot",
    "judge",
    "judge_rankings",
    "measure",
    "ranked",
    "ranking_plots",
    "read_qrels",
    "read_run",
    "score_plot",
    "trec_lines",
    "write_report",
    "write_run",
]
