from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raybert.errors import InputError
from raybert.evaluation import BinaryClassificationEvaluator, pair_report

PAIRS = (["a", "a", "b", "b"], ["p", "q", "p", "q"], [1, 0, 0, 1])
VECTORS = {"a": [1, 0], "b": [0, 1], "p": [2, 1], "q": [0.4, 1]}


def test_dense_pairs_have_the_evaluators_numbers(written_vectors: Callable[..., Any]) -> None:
    metrics, plots = pair_report(written_vectors(VECTORS), *PAIRS)
    expected = BinaryClassificationEvaluator(*PAIRS)(written_vectors(VECTORS))
    assert metrics == {name.removeprefix("cosine_"): each for name, each in expected.items()}
    assert [plot.name for plot in plots] == ["scores"]


def test_probabilities_are_held_against_what_came_true(written_scores: Callable[..., Any]) -> None:
    metrics, plots = pair_report(written_scores({"p": 0.75, "q": 0.25}), *PAIRS)
    assert [plot.name for plot in plots] == ["scores", "calibration"]
    assert metrics["calibration_error"] == pytest.approx(0.25)
    _, plots = pair_report(written_scores({"p": 3.0, "q": -1.0}), *PAIRS)
    assert [plot.name for plot in plots] == ["scores"]


def test_faults_are_refused(written_scores: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="label 2: 0 and 1 are allowed"):
        pair_report(written_scores({"p": 0.5}), ["a"], ["p"], [2])
    with pytest.raises(InputError, match="left 1, right 2"):
        pair_report(written_scores({"p": 0.5}), ["a"], ["p", "p"], [1])
