from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer import evaluation

from raybert.errors import InputError
from raybert.evaluation import SequentialEvaluator, TranslationEvaluator, TripletEvaluator

VECTORS = {"a": [1, 0], "p": [1, 0.1], "n": [0, 1]}


def test_numbers_of_all_and_the_score_of_the_last(written_vectors: Callable[..., Any]) -> None:
    evaluators = [
        TripletEvaluator(["a"], ["p"], ["n"], name="one"),
        TripletEvaluator(["a"], ["n"], ["p"], name="two"),
    ]
    together = SequentialEvaluator(evaluators)
    assert together(written_vectors(VECTORS)) == {
        "one_cosine_accuracy": 1.0,
        "two_cosine_accuracy": 0.0,
        "sequential_score": 0.0,
    }
    assert together.primary_metric == "sequential_score"
    mean = SequentialEvaluator(evaluators, lambda scores: sum(scores) / len(scores))
    assert mean(written_vectors(VECTORS))["sequential_score"] == 0.5


@given(seed=st.integers(0, 9999), count=st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_equals_the_oracle(
    written_vectors: Callable[..., Any], random_vectors: Any, seed: int, count: int
) -> None:
    names = [f"t{n}" for n in range(9)]
    draw = np.random.default_rng(seed)
    columns = [draw.choice(names, count).tolist() for _ in range(3)]
    encoder = written_vectors(random_vectors(names, seed))
    triplets = {"similarity_fn_names": ["dot"], "name": "one"}  # whole numbers: no last bit differs
    theirs = evaluation.SequentialEvaluator(
        [
            evaluation.TripletEvaluator(*columns, **triplets),
            evaluation.TripletEvaluator(*columns[::-1], **{**triplets, "name": "two"}),
        ]
    )
    ours = SequentialEvaluator(
        [
            TripletEvaluator(*columns, similarity_fn_names=["dot"], name="one"),
            TripletEvaluator(*columns[::-1], similarity_fn_names=["dot"], name="two"),
        ]
    )
    assert ours(encoder) == pytest.approx(theirs(encoder))


def test_it_nests(written_vectors: Callable[..., Any]) -> None:
    inner = SequentialEvaluator([TripletEvaluator(["a"], ["p"], ["n"])])
    outer = TranslationEvaluator(["a"], ["p"], name="pair")
    assert SequentialEvaluator([outer, inner])(written_vectors(VECTORS))["sequential_score"] == 1.0


def test_faults_are_refused(written_vectors: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="at least one evaluator"):
        SequentialEvaluator([])
    twice = [TripletEvaluator(["a"], ["p"], ["n"]) for _ in range(2)]
    with pytest.raises(InputError, match="'cosine_accuracy' comes twice"):
        SequentialEvaluator(twice)(written_vectors(VECTORS))
