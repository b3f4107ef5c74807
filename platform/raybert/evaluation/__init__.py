"""Evaluation: metrics, evaluators for dense, sparse and cross encoders, runs and reports.

>>> from raybert.evaluation import TripletEvaluator
>>> evaluator = TripletEvaluator(anchors, positives, negatives, name="dev")  # doctest: +SKIP
>>> evaluator(encoder)[evaluator.primary_metric]                             # doctest: +SKIP
0.93
"""

from raybert.evaluation.bitext import TranslationEvaluator
from raybert.evaluation.calibration import Calibration, calibrate
from raybert.evaluation.distillation import MSEEvaluator
from raybert.evaluation.evaluator import Embedder, Evaluator
from raybert.evaluation.graded_pairs import EmbeddingSimilarityEvaluator
from raybert.evaluation.hybrid import ReciprocalRankFusionEvaluator
from raybert.evaluation.judgements import read_qrels
from raybert.evaluation.labelled_pairs import BinaryClassificationEvaluator
from raybert.evaluation.metrics import (
    METRICS,
    Cutoffs,
    Judged,
    judge,
    judge_rankings,
    measure,
    ranked,
)
from raybert.evaluation.pair_report import pair_report
from raybert.evaluation.paraphrases import ParaphraseMiningEvaluator
from raybert.evaluation.report import (
    Plot,
    calibration_plot,
    hit_score_plot,
    query_table,
    ranking_plots,
    score_plot,
    write_report,
)
from raybert.evaluation.reranking import RerankingEvaluator
from raybert.evaluation.retrieval import InformationRetrievalEvaluator
from raybert.evaluation.run import read_run, trec_lines, write_run
from raybert.evaluation.sequential import SequentialEvaluator
from raybert.evaluation.triplets import TripletEvaluator

__all__ = [
    "METRICS",
    "BinaryClassificationEvaluator",
    "Calibration",
    "Cutoffs",
    "Embedder",
    "EmbeddingSimilarityEvaluator",
    "Evaluator",
    "InformationRetrievalEvaluator",
    "Judged",
    "MSEEvaluator",
    "ParaphraseMiningEvaluator",
    "Plot",
    "ReciprocalRankFusionEvaluator",
    "RerankingEvaluator",
    "SequentialEvaluator",
    "TranslationEvaluator",
    "TripletEvaluator",
    "calibrate",
    "calibration_plot",
    "hit_score_plot",
    "judge",
    "judge_rankings",
    "measure",
    "pair_report",
    "query_table",
    "ranked",
    "ranking_plots",
    "read_qrels",
    "read_run",
    "score_plot",
    "trec_lines",
    "write_report",
    "write_run",
]
