from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.evaluation import MSEEvaluator as Oracle

from raybert.errors import InputError
from raybert.evaluation import MSEEvaluator

TAUGHT = {"a": [1, 0], "b": [0.5, 2]}
LEARNED = {"x": [1, 1], "y": [0, 2]}


def test_equals_the_oracle_and_hand(written_vectors: Callable[..., Any]) -> None:
    teacher, student = written_vectors(TAUGHT), written_vectors(LEARNED)
    ours = MSEEvaluator(["a", "b"], ["x", "y"], teacher, name="dev")
    theirs: Any = Oracle(["a", "b"], ["x", "y"], teacher_model=teacher, name="dev")
    assert ours(student) == pytest.approx(theirs(student))
    assert ours(student)["dev_negative_mse"] == pytest.approx(-100 * (1 + 0.25) / 4)
    assert ours.primary_metric == "dev_negative_mse"


@given(seed=st.integers(0, 9999), count=st.integers(1, 12), width=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_equals_the_oracle_on_random_vectors(
    written_vectors: Callable[..., Any], random_vectors: Any, seed: int, count: int, width: int
) -> None:
    names = [f"t{n}" for n in range(8)]
    draw = np.random.default_rng(seed)
    sources, targets = (draw.choice(names, count).tolist() for _ in range(2))
    teacher, student = (
        written_vectors(random_vectors(names, each, width)) for each in (seed, seed + 1)
    )
    theirs: Any = Oracle(sources, targets, teacher_model=teacher)
    assert MSEEvaluator(sources, targets, teacher)(student) == pytest.approx(theirs(student))


def test_teacher_reads_once(written_vectors: Callable[..., Any]) -> None:
    teacher, student = written_vectors(TAUGHT), written_vectors(LEARNED)
    evaluator = MSEEvaluator(["a", "b"], ["x", "y"], teacher)
    evaluator(student)
    evaluator(student)
    assert teacher.calls == [("text", 2)]


def test_sparse_student_and_truncation(written_vectors: Callable[..., Any]) -> None:
    teacher = written_vectors(TAUGHT, sparse=True)
    metrics = MSEEvaluator(["a", "b"], ["x", "y"], teacher, truncate_dim=1)(
        written_vectors(LEARNED, sparse=True)
    )
    assert metrics["negative_mse"] == pytest.approx(-100 * 0.125)
    assert metrics["active_dims"] == 0.5


def test_faults_are_refused(written_vectors: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="source_sentences 1, target_sentences 2"):
        MSEEvaluator(["a"], ["x", "y"], written_vectors(TAUGHT))
    with pytest.raises(InputError, match="3 wide, the teacher's 2"):
        MSEEvaluator(["a"], ["x"], written_vectors(TAUGHT))(written_vectors({"x": [1, 2, 3]}))
