from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.evaluation import TranslationEvaluator as Oracle

from raybert.errors import InputError
from raybert.evaluation import TranslationEvaluator


@given(seed=st.integers(0, 9999), count=st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_equals_the_oracle(written_vectors: Callable[..., Any], seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    names = [f"t{n}" for n in range(10)]
    vectors = dict(zip(names, draw.standard_normal((10, 3)).astype("f4"), strict=True))
    left, right = (draw.choice(names, count).tolist() for _ in range(2))
    theirs, ours = (
        Oracle(left, right, name="en-es"),
        TranslationEvaluator(left, right, name="en-es"),
    )
    assert ours(written_vectors(vectors)) == pytest.approx(theirs(written_vectors(vectors)))
    assert ours.primary_metric == theirs.primary_metric


def test_the_same_text_twice_is_a_hit(written_vectors: Callable[..., Any]) -> None:
    vectors = {"yes": [1, 0], "sí": [1, 0], "no": [0, 1], "nein": [0, 1]}
    evaluator = TranslationEvaluator(["yes", "yes", "no"], ["sí", "sí", "nein"])
    assert evaluator(written_vectors(vectors))["mean_accuracy"] == 1


def test_sparse_encoder_is_served_too(written_vectors: Callable[..., Any]) -> None:
    vectors = {"a": [1, 0], "b": [0, 1], "x": [2, 0], "y": [3, 0]}
    metrics = TranslationEvaluator(["a", "b"], ["x", "y"])(written_vectors(vectors, sparse=True))
    assert metrics["src2trg_accuracy"] == 0.5
    assert metrics["active_dims"] == 1


def test_faults_are_refused() -> None:
    with pytest.raises(InputError, match="source_sentences 1, target_sentences 2"):
        TranslationEvaluator(["a"], ["b", "c"])
