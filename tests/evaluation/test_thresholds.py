from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator
from sklearn.metrics import matthews_corrcoef

from raybert.evaluation.thresholds import best_accuracy, best_f1, matthews

labelled = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.8, 0.80000001, 0.9, -0.5]), st.booleans()),
    min_size=1,
    max_size=20,
)


def test_published_thresholds() -> None:
    scores, positive = np.array([0.9, 0.8, 0.3, 0.2]), np.array([True, False, True, False])
    accuracy, f1 = best_accuracy(scores, positive), best_f1(scores, positive)
    assert (accuracy.value, accuracy.threshold) == pytest.approx((0.75, 0.85))
    assert (f1.value, f1.precision, f1.recall) == pytest.approx((0.8, 2 / 3, 1.0))
    assert f1.threshold == pytest.approx(0.25)


@given(rows=labelled)
@settings(max_examples=300, deadline=None)
def test_equals_the_oracle(rows: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in rows], dtype=np.float32)
    positive = np.array([flag for _, flag in rows])
    accuracy = BinaryClassificationEvaluator.find_best_acc_and_threshold(
        scores, positive.astype(int), True
    )
    ours = best_accuracy(scores, positive)
    assert (ours.value, ours.threshold) == pytest.approx(accuracy)
    if positive.any():
        f1 = BinaryClassificationEvaluator.find_best_f1_and_threshold(
            scores, positive.astype(int), True
        )
        best = best_f1(scores, positive)
        assert best.value == pytest.approx(f1[0])
        if best.precision == pytest.approx(f1[1]):  # else two thresholds share the best F1
            assert (best.recall, best.threshold) == pytest.approx(f1[2:])


@given(rows=labelled, threshold=st.sampled_from([0.0, 0.3, 0.85]))
@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=100, deadline=None)
def test_matthews_equals_scikit_learn(rows: list[tuple[float, bool]], threshold: float) -> None:
    scores, positive = (np.array(column) for column in zip(*rows, strict=True))
    assert matthews(scores, positive, threshold) == pytest.approx(
        matthews_corrcoef(positive, scores >= threshold)
    )


@given(rows=labelled)
@settings(max_examples=100, deadline=None)
def test_the_threshold_gives_the_accuracy_it_promises(rows: list[tuple[float, bool]]) -> None:
    scores, positive = (np.array(column) for column in zip(*rows, strict=True))
    found = best_accuracy(scores, positive)
    assert ((scores >= found.threshold) == positive).mean() == pytest.approx(found.value)
