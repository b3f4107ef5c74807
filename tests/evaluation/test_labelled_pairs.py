from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.cross_encoder.evaluation import CrossEncoderClassificationEvaluator
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator as Oracle,
)

from raybert.errors import InputError
from raybert.evaluation import BinaryClassificationEvaluator

ALL = ["cosine", "dot", "euclidean", "manhattan"]
NAMES = [f"t{n}" for n in range(12)]


@given(seed=st.integers(0, 9999), count=st.integers(2, 12))
@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=40, deadline=None)
def test_equals_the_oracle(
    written_vectors: Callable[..., Any], random_vectors: Any, seed: int, count: int
) -> None:
    """Where two thresholds share the best F1 the oracle's choice goes by the last bit."""
    draw = np.random.default_rng(seed)
    left, right = (draw.choice(NAMES, count).tolist() for _ in range(2))
    labels = [1, *draw.integers(0, 2, count - 1).tolist()]
    encoder = written_vectors(random_vectors(NAMES, seed))
    theirs = Oracle(left, right, labels, similarity_fn_names=ALL)
    ours = BinaryClassificationEvaluator(left, right, labels, similarity_fn_names=ALL)
    found, expected = ours(encoder), theirs(encoder)
    for name in (*ALL, "max"):
        if found[f"{name}_recall"] != pytest.approx(expected[f"{name}_recall"]):
            assert found[f"{name}_f1"] == pytest.approx(expected[f"{name}_f1"])
            return
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert ours.primary_metric == theirs.primary_metric == "max_ap"


def test_thresholds_of_distances_are_distances(written_vectors: Callable[..., Any]) -> None:
    vectors = {"a": [0, 0], "near": [1, 0], "far": [9, 0]}
    metrics = BinaryClassificationEvaluator(
        ["a", "a"], ["near", "far"], [1, 0], similarity_fn_names=["euclidean"]
    )(written_vectors(vectors))
    assert metrics["euclidean_f1_threshold"] == 5
    assert metrics["euclidean_accuracy"] == 1


@given(seed=st.integers(0, 9999), classes=st.sampled_from([1, 3]))
@settings(max_examples=40, deadline=None)
def test_cross_encoder_equals_the_oracle(
    written_scores: Callable[..., Any], seed: int, classes: int
) -> None:
    draw = np.random.default_rng(seed)
    pairs = [("q", name) for name in NAMES]
    labels = [1, *draw.integers(0, max(2, classes), 11).tolist()]
    values = draw.integers(-2, 3, (12, classes)).astype(float)
    table = {n: (v[0] if classes == 1 else v) for n, v in zip(NAMES, values, strict=True)}
    theirs = CrossEncoderClassificationEvaluator(pairs, labels)
    ours = BinaryClassificationEvaluator(["q"] * 12, NAMES, labels)
    encoder = written_scores(table)
    found, expected = ours(encoder), theirs(encoder)
    if found.get("recall") == pytest.approx(expected.get("recall")):
        assert found == pytest.approx(expected)
    else:
        assert found["f1"] == pytest.approx(expected["f1"])
    assert ours.primary_metric == theirs.primary_metric


def test_faults_are_refused(
    written_vectors: Callable[..., Any], written_scores: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match="label 2: 0 and 1 are allowed"):
        BinaryClassificationEvaluator(["a"], ["b"], [2])(written_vectors({"a": [1], "b": [1]}))
    with pytest.raises(InputError, match="at least one"):
        BinaryClassificationEvaluator([], [], [])
    with pytest.raises(InputError, match="whole numbers"):
        BinaryClassificationEvaluator(["a"], ["b"], [0.5])(  # type: ignore[list-item]
            written_scores({"b": [0.0, 1.0]})
        )
