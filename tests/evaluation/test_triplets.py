from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.evaluation import TripletEvaluator as Oracle

from raybert.errors import InputError
from raybert.evaluation import TripletEvaluator

ALL = ["cosine", "dot", "euclidean", "manhattan"]
NAMES = [f"t{n}" for n in range(12)]


@given(seed=st.integers(0, 9999), count=st.integers(1, 12), margin=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=40, deadline=None)
def test_equals_the_oracle(
    written_vectors: Callable[..., Any],
    random_vectors: Any,
    seed: int,
    count: int,
    margin: float,
) -> None:
    draw = np.random.default_rng(seed)
    columns = [draw.choice(NAMES, count).tolist() for _ in range(3)]
    vectors = random_vectors(NAMES, seed)
    names = ["dot", "manhattan"]  # whole numbers: equal in both libraries to the last bit
    theirs = Oracle(*columns, margin=margin, similarity_fn_names=names)
    ours = TripletEvaluator(*columns, margin=margin, similarity_fn_names=names)
    assert ours(written_vectors(vectors)) == pytest.approx(theirs(written_vectors(vectors)))
    assert ours.primary_metric == theirs.primary_metric == "max_accuracy"


def test_tie_is_no_success_and_margins_go_by_name(written_vectors: Callable[..., Any]) -> None:
    vectors = {"a": [1, 0], "same": [1, 0], "near": [0.9, 0.1], "far": [0, 1]}
    triplets = (["a", "a"], ["same", "near"], ["same", "far"])
    encoder = written_vectors(vectors)
    evaluator = TripletEvaluator(*triplets, name="dev")
    assert evaluator(encoder) == {"dev_cosine_accuracy": 0.5}
    assert encoder.calls == [("query", 2), ("document", 2), ("document", 2)]
    strict = TripletEvaluator(*triplets, margin={"cosine": 0.999})
    assert strict(encoder)["cosine_accuracy"] == 0


def test_sparse_encoder_is_served_too(written_vectors: Callable[..., Any]) -> None:
    vectors = {"a": [1, 0, 0], "p": [2, 0, 0], "n": [0, 1, 1]}
    metrics = TripletEvaluator(["a"], ["p"], ["n"])(written_vectors(vectors, sparse=True))
    assert metrics["dot_accuracy"] == 1
    assert metrics["active_dims"] == pytest.approx(4 / 3)


def test_faults_are_refused() -> None:
    with pytest.raises(InputError, match="anchors 1, positives 2"):
        TripletEvaluator(["a"], ["p", "q"], ["n"])
    with pytest.raises(InputError, match="similarity 'cos'"):
        TripletEvaluator(["a"], ["p"], ["n"], margin={"cos": 1})
