from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from raybert.errors import InputError
from raybert.evaluation import calibrate, calibration_plot, write_report


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 200).map(lambda n: n / 200), st.booleans()), min_size=2
    ).filter(lambda rows: len({flag for _, flag in rows}) == 2)
)
@settings(max_examples=60, deadline=None)
def test_equals_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    # a score on the edge of two bins belongs to the upper one here and to the lower one there
    scores = np.array([min(score + 1e-4, 0.9999) for score, _ in rows])
    positive = np.array([flag for _, flag in rows])
    found = calibrate(scores, positive)
    shares, means = calibration_curve(positive, scores, n_bins=10)
    np.testing.assert_allclose(found.shares, shares)
    np.testing.assert_allclose(found.scores, means)
    assert sum(found.counts) == len(rows)


def test_error_is_the_mean_gap() -> None:
    scores = np.array([0.25] * 4 + [0.95] * 4)
    positive = np.array([True, False, False, False, True, True, False, False])
    assert calibrate(scores, positive).error == pytest.approx((0 + 0.45) / 2)
    assert calibrate(np.array([0.0, 1.0]), np.array([False, True])).error == 0


def test_it_can_be_drawn(tmp_path: Path) -> None:
    found = calibrate(np.array([0.2, 0.8]), np.array([False, True]))
    write_report(str(tmp_path), {}, title="t", rows=2, plots=[calibration_plot(found)])
    assert (tmp_path / "plots" / "calibration.png").stat().st_size > 1000


def test_scores_must_be_probabilities() -> None:
    with pytest.raises(InputError, match=r"score 1\.5: calibration reads scores from 0 to 1"):
        calibrate(np.array([0.5, 1.5]), np.array([True, False]))
    with pytest.raises(InputError, match="0 and 0"):
        calibrate(np.array([]), np.array([], dtype=bool))
