"""The evaluator that settings ask for."""

from __future__ import annotations

from raybert.corpus import Columns
from raybert.corpus.texts import read_texts
from raybert.errors import InputError, SettingsError
from raybert.evaluation import (
    EmbeddingSimilarityEvaluator,
    Evaluator,
    InformationRetrievalEvaluator,
    SequentialEvaluator,
    read_qrels,
)
from raybert.training.data import open_data
from raybert.training.settings import DataSettings, EvaluationSettings


def open_evaluator(settings: EvaluationSettings, family: str) -> Evaluator | None:
    """Return what measures the model on the way, None where nothing is asked for.

    Raises:
        SettingsError: only a part of what a measurement needs is given, or it is not for this
            kind of model.
        InputError: its files cannot be read.
    """
    found: list[Evaluator] = []
    retrieval = (settings.queries, settings.corpus, settings.qrels)
    if any(retrieval):
        found.append(_retrieval(settings, family))
    if settings.pairs is not None:
        found.append(_graded_pairs(settings.pairs))
    if len(found) > 1:
        return SequentialEvaluator(found)
    return found[0] if found else None


def _retrieval(settings: EvaluationSettings, family: str) -> Evaluator:
    """Return the retrieval that settings name."""
    if settings.queries is None or settings.corpus is None or settings.qrels is None:
        raise SettingsError("evaluation: queries, corpus and qrels are needed together")
    if family == "cross":
        raise SettingsError("evaluation.queries: a cross-encoder is measured by evaluation.pairs")
    queries, corpus = (
        read_texts(files, Columns()) for files in (settings.queries, settings.corpus)
    )
    return InformationRetrievalEvaluator(queries, corpus, read_qrels(settings.qrels))


def _graded_pairs(settings: DataSettings) -> Evaluator:
    """Return the graded pairs that settings name."""
    data = open_data(settings, "evaluation.pairs")
    if len(data.columns) != 2 or data.label is None:
        raise InputError(
            f"{data.where}: two text columns and a label are needed; there are "
            f"{', '.join(data.table.column_names)}"
        )
    rows = range(len(data))
    left, right = (data.texts(column, rows) for column in data.columns)
    grades = [float(value) for value in data.table.column(data.label).to_pylist()]
    return EmbeddingSimilarityEvaluator(left, right, grades)
