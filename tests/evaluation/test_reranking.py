from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
from sentence_transformers.sentence_transformer.evaluation import RerankingEvaluator as Oracle

from raybert.errors import InputError
from raybert.evaluation import RerankingEvaluator

NAMES = [f"t{n:02d}" for n in range(14)]


@given(seed=st.integers(0, 9999), at_k=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_dense_equals_the_oracle(written_vectors: Callable[..., Any], seed: int, at_k: int) -> None:
    draw = np.random.default_rng(seed)
    vectors = dict(zip(NAMES, draw.standard_normal((14, 4)).astype("f4"), strict=True))
    samples: list[Any] = []
    for query in NAMES[:3]:
        texts = draw.permutation(NAMES[3:]).tolist()
        cut = int(draw.integers(0, 4))
        samples.append({"query": query, "positive": texts[:cut], "negative": texts[cut : cut + 5]})
    samples.append({"query": "t00", "positive": "t01", "negative": ["t02", "t03"]})
    theirs, ours = Oracle(samples, at_k=at_k), RerankingEvaluator(samples, at_k=at_k)
    assert ours(written_vectors(vectors)) == pytest.approx(theirs(written_vectors(vectors)))
    assert ours.primary_metric == theirs.primary_metric


@given(seed=st.integers(0, 9999), always=st.booleans(), ties=st.booleans())
@settings(max_examples=60, deadline=None)
def test_cross_encoder_with_a_first_stage_equals_the_oracle(
    written_scores: Callable[..., Any], seed: int, always: bool, ties: bool
) -> None:
    draw = np.random.default_rng(seed)
    values = draw.integers(0, 3, 14) if ties else draw.permutation(14)
    encoder = written_scores(dict(zip(NAMES, values.astype(float), strict=True)))
    samples: list[Any] = []
    for number in range(3):
        texts = draw.permutation(NAMES).tolist()
        cut = int(draw.integers(1, 4))
        samples.append(
            {"query": f"q{number}", "positive": texts[:cut], "documents": texts[cut - 1 : cut + 7]}
        )
    theirs = CrossEncoderRerankingEvaluator(samples, always_rerank_positives=always, at_k=4)
    ours = RerankingEvaluator(samples, always_rerank_positives=always, at_k=4)
    found, expected = ours(encoder), theirs(encoder)
    if ties:  # the oracle's MRR goes by chance there
        found.pop("mrr@4")
        expected.pop("mrr@4")
    assert found == pytest.approx(expected)


def test_first_stage_has_the_published_numbers(written_scores: Callable[..., Any]) -> None:
    sample = {"query": "q", "positive": ["a", "z"], "documents": ["b", "a", "c"]}
    encoder = written_scores({"a": 0.9, "z": 0.8, "b": 0.1, "c": 0.2})
    metrics = RerankingEvaluator([sample], name="dev")(encoder)
    assert metrics["dev_base_map"] == 0.5
    assert metrics["dev_base_ndcg@10"] == pytest.approx(0.65092, abs=1e-5)
    assert metrics["dev_map"] == 1
    lost = RerankingEvaluator([sample], always_rerank_positives=False)(encoder)
    assert lost["map"] == 1  # of what the first stage found


def test_one_evaluator_serves_dense_and_sparse(written_vectors: Callable[..., Any]) -> None:
    vectors = {"q": [1, 0, 0], "p": [2, 0, 0], "n": [1, 5, 0]}
    samples = [{"query": "q", "positive": "p", "negative": ["n"]}] * 2
    for sparse in (False, True):
        encoder = written_vectors(vectors, sparse=sparse)
        metrics = RerankingEvaluator(samples)(encoder)
        assert metrics["ndcg@10"] == 1
        assert ("active_dims" in metrics) is sparse
        assert encoder.calls == [("query", 1), ("document", 2)]


def test_equal_scores_are_no_hits(written_vectors: Callable[..., Any]) -> None:
    vectors = {"q": [1, 0], **{name: [0, 1] for name in NAMES}}
    sample = {"query": "q", "positive": NAMES[0], "negative": NAMES[1:]}
    metrics = RerankingEvaluator([sample])(written_vectors(vectors))
    assert metrics["mrr@10"] == 0
    assert metrics["map"] == pytest.approx(1 / 14)


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ({"query": "q", "negative": ["n"]}, "needs 'positive'; this one has query, negative"),
        ({"query": "q", "positive": "p"}, "either 'negative' or 'documents'"),
        (
            {"query": "q", "positive": "p", "negative": [], "documents": []},
            "either 'negative' or 'documents'",
        ),
        ({"query": "q", "positive": [], "negative": ["n"]}, "no sample has both"),
    ],
)
def test_faults_are_refused(sample: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        RerankingEvaluator([sample])
