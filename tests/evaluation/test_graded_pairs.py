from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator as Oracle,
)

from raybert.errors import InputError
from raybert.evaluation import EmbeddingSimilarityEvaluator

ALL = ["cosine", "dot", "euclidean", "manhattan"]
NAMES = [f"t{n}" for n in range(12)]


@given(seed=st.integers(0, 9999), count=st.integers(3, 12))
@settings(max_examples=30, deadline=None)
@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
def test_equals_the_oracle(
    written_vectors: Callable[..., Any], random_vectors: Any, seed: int, count: int
) -> None:
    draw = np.random.default_rng(seed)
    left, right = (draw.choice(NAMES, count).tolist() for _ in range(2))
    grades = draw.integers(0, 4, count).tolist()
    encoder = written_vectors(random_vectors(NAMES, seed))
    theirs = Oracle(left, right, grades, similarity_fn_names=ALL, name="x")
    ours = EmbeddingSimilarityEvaluator(left, right, grades, similarity_fn_names=ALL, name="x")
    expected = theirs(encoder)
    assert ours(encoder) == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
    assert ours.primary_metric == theirs.primary_metric == "x_spearman_max"


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_quantized_vectors_equal_the_oracles_bytes(
    written_vectors: Callable[..., Any], precision: Any
) -> None:
    draw = np.random.default_rng(3)
    vectors = dict(zip(NAMES, draw.standard_normal((12, 16)).astype("f4"), strict=True))
    left, right, grades = NAMES[:6], NAMES[6:], list(range(6))
    ours = EmbeddingSimilarityEvaluator(left, right, grades, precision=precision)
    from sentence_transformers.util import pairwise_cos_sim, quantize_embeddings

    both = np.stack([vectors[name] for name in NAMES])
    stored = quantize_embeddings(both, precision).astype(np.int16)
    if "binary" in precision:
        offset = 128 if precision == "binary" else 0
        stored = np.unpackbits((stored + offset).astype(np.uint8), axis=1)
    rows = stored.astype(np.float32)
    scores = pairwise_cos_sim(rows[:6], rows[6:]).numpy()
    metrics = ours(written_vectors(vectors))
    assert metrics["pearson_cosine"] == pytest.approx(pearsonr(grades, scores)[0], abs=1e-5)
    assert metrics["spearman_cosine"] == pytest.approx(spearmanr(grades, scores)[0], abs=1e-5)


def test_every_distinct_text_is_encoded_once(written_vectors: Callable[..., Any]) -> None:
    encoder = written_vectors({"a": [1, 0], "b": [0, 1], "c": [1, 1]})
    EmbeddingSimilarityEvaluator(["a", "a", "b"], ["b", "c", "a"], [0, 1, 2])(encoder)
    assert encoder.calls == [("text", 3)]


def test_sparse_and_cross_encoders_are_served_too(
    written_vectors: Callable[..., Any], written_scores: Callable[..., Any]
) -> None:
    texts = {"a": [1, 0, 0], "b": [0, 2, 0], "c": [1, 1, 0], "d": [3, 0, 0]}
    left, right, grades = ["a", "a", "a"], ["b", "c", "d"], [0, 1, 2]
    metrics = EmbeddingSimilarityEvaluator(left, right, grades)(written_vectors(texts, sparse=True))
    assert metrics["spearman_dot"] == pytest.approx(1)
    assert metrics["active_dims"] == 5 / 4
    evaluator = EmbeddingSimilarityEvaluator(left, right, grades, name="sts")
    found = evaluator(written_scores({"b": 0.9, "c": 0.5, "d": 0.1}))
    assert found == pytest.approx({"sts_pearson": -1, "sts_spearman": -1})
    assert evaluator.primary_metric == "sts_spearman"


def test_faults_are_refused() -> None:
    with pytest.raises(InputError, match="sentences1 2, sentences2 1, scores 2"):
        EmbeddingSimilarityEvaluator(["a", "b"], ["c"], [1, 2])
    with pytest.raises(InputError, match="precision 'int4'"):
        EmbeddingSimilarityEvaluator(["a"], ["b"], [1], precision="int4")
