from __future__ import annotations

import numpy as np
import pytest

from raybert.evaluation.agreement import Outputs, compare

VECTORS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 0.0]], np.float32)
SCORES = np.array([[0.9, 0.5, 0.1], [0.2, 0.4, 0.4]], np.float32)


def test_the_same_numbers_agree() -> None:
    found = compare(Outputs(VECTORS, SCORES), Outputs(VECTORS.copy(), SCORES.copy()))
    assert found.as_dict() == pytest.approx(
        {"max_difference": 0, "min_cosine": 1, "mean_cosine": 1, "ranking": 1}
    )


def test_difference_cosine_and_order_are_told() -> None:
    turned = np.array([[0.0, 1.0], [0.6, 0.8], [0.0, 0.0]], np.float32)
    swapped = np.array([[0.5, 0.9, 0.1], [0.2, 0.5, 0.4]], np.float32)
    found = compare(Outputs(VECTORS, SCORES), Outputs(turned, swapped))
    assert found.max_difference == 1
    assert found.min_cosine == 0
    assert found.mean_cosine == pytest.approx(2 / 3)
    # Of six pairs one is turned round; the pair that was tied may stand in either order.
    assert found.ranking == pytest.approx(5 / 6)


def test_scores_of_pairs_are_compared_by_their_correlation() -> None:
    found = compare(Outputs(None, SCORES), Outputs(None, SCORES * 2 + 3))
    assert found.min_cosine == pytest.approx(1)
    assert found.ranking == 1


def test_other_widths_and_nan_never_agree() -> None:
    assert compare(Outputs(VECTORS, SCORES), Outputs(VECTORS[:, :1], SCORES)).min_cosine == -1
    broken = VECTORS.copy()
    broken[0] = np.nan
    found = compare(Outputs(VECTORS, SCORES), Outputs(broken, SCORES))
    assert found.min_cosine == -1
    assert found.max_difference == float("inf")
    assert np.isfinite(found.mean_cosine)
