"""The evaluator that settings ask for."""

from __future__ import annotations

from collections.abc import Sequence

from raybert.corpus import Columns
from raybert.corpus.texts import read_texts
from raybert.errors import InputError, SettingsError
from raybert.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    Evaluator,
    InformationRetrievalEvaluator,
    SequentialEvaluator,
    TranslationEvaluator,
    read_qrels,
)
from raybert.training.data_settings import DataSettings
from raybert.training.opening import open_data
from raybert.training.settings import EvaluationSettings


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
        left, right, grades = _pairs(settings.pairs, "pairs")
        found.append(EmbeddingSimilarityEvaluator(left, right, grades))
    if settings.labelled is not None:
        left, right, labels = _pairs(settings.labelled, "labelled")
        found.append(BinaryClassificationEvaluator(left, right, [int(each) for each in labels]))
    if settings.translations is not None:
        if family == "cross":
            raise SettingsError("evaluation.translations: a cross-encoder makes no vectors")
        left, right, _ = _pairs(settings.translations, "translations", labelled=False)
        found.append(TranslationEvaluator(left, right))
    if len(found) > 1:
        return SequentialEvaluator(found)
    return found[0] if found else None


def read_pairs(files: Sequence[str]) -> tuple[list[str], list[str], list[float], str]:
    """Read labelled pairs; returns both texts, the labels, and the rows' content hash.

    Raises:
        InputError: there are not two text columns and a label.
    """
    settings = DataSettings(files=list(files))
    return *_pairs(settings, "pairs"), open_data(settings).fingerprint


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


def _pairs(
    settings: DataSettings, name: str, *, labelled: bool = True
) -> tuple[list[str], list[str], list[float]]:
    """Return the pairs that settings name, and their labels.

    Raises:
        InputError: there are not two text columns, or no label where one is needed.
    """
    data = open_data(settings, f"evaluation.{name}")
    if len(data.columns) != 2 or labelled != (data.label is not None):
        needed = "two text columns and a label are" if labelled else "two text columns alone are"
        raise InputError(
            f"{data.where}: {needed} needed; there are {', '.join(data.table.column_names)}"
        )
    rows = range(len(data))
    left, right = (data.texts(column, rows) for column in data.columns)
    if data.label is None:
        return left, right, []
    return left, right, [float(value) for value in data.table.column(data.label).to_pylist()]
