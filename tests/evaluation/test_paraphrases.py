from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.evaluation import (
    ParaphraseMiningEvaluator as Oracle,
)

from raybert.errors import InputError
from raybert.evaluation import ParaphraseMiningEvaluator
from raybert.evaluation.paraphrases import mined_metrics
from raybert.vectors import top_pairs


@given(seed=st.integers(0, 9999), closure=st.booleans())
@settings(max_examples=40, deadline=None)
def test_judging_equals_the_oracle(seed: int, closure: bool) -> None:
    """Both judge the oracle's own pairs of the same vectors, where nothing ties."""
    draw = np.random.default_rng(seed)
    count = 12
    vectors = draw.standard_normal((count, 4)).astype("f4")
    texts = {f"d{n}": f"text {n}" for n in range(count)}
    pairs = [tuple(draw.choice(list(texts), 2, replace=False).tolist()) for _ in range(8)]

    class Encoder:
        similarity_fn_name = "cosine"

        def __init__(self) -> None:
            self.model_card_data = self

        def set_evaluation_metrics(self, *_: Any) -> None:
            """Nothing to keep."""

        def encode(self, inputs: Any, convert_to_tensor: bool = False, **_: Any) -> Any:
            rows = vectors[[int(text.split()[1]) for text in inputs]]
            return torch.from_numpy(rows) if convert_to_tensor else rows

        encode_query = encode_document = encode

    theirs: Any = Oracle(
        texts, pairs, add_transitive_closure=closure, top_k=5, max_pairs=20, write_csv=False
    )
    ours = ParaphraseMiningEvaluator(
        texts, pairs, add_transitive_closure=closure, top_k=5, max_pairs=20
    )
    found, expected = ours(Encoder()), theirs(Encoder())
    if found["precision"] != pytest.approx(expected["precision"]):
        # two thresholds of one F1: the oracle's choice goes by the last bit
        assert found["f1"] == pytest.approx(expected["f1"])
        return
    assert found == pytest.approx(expected, abs=1e-6)


def test_pairs_of_equal_score_are_judged_together() -> None:
    pairs = top_pairs(np.ones((4, 2), dtype="f4"))
    assert len(pairs.scores) == 6
    metrics = mined_metrics(pairs, {(2, 3)})
    assert metrics["average_precision"] == pytest.approx(1 / 6)
    assert metrics["precision"] == pytest.approx(1 / 6)
    assert metrics["recall"] == 1


def test_known_pairs_and_their_closure(written_vectors: Callable[..., Any]) -> None:
    vectors = {"a": [1, 0], "b": [0.9, 0.1], "c": [0.8, 0.2], "x": [0, 1]}
    texts = {name: name for name in vectors}
    linked = [("a", "b"), ("b", "c"), ("c", "unknown"), ("x", "x")]
    plain = ParaphraseMiningEvaluator(texts, linked)(written_vectors(vectors))
    closed = ParaphraseMiningEvaluator(texts, linked, add_transitive_closure=True)
    metrics = closed(written_vectors(vectors))
    assert metrics["f1"] == 1
    assert metrics["average_precision"] == pytest.approx(1)
    assert plain["recall"] == 1
    assert closed.primary_metric == "average_precision"


def test_nothing_to_find_is_zero_and_one_text_is_refused(
    written_vectors: Callable[..., Any],
) -> None:
    metrics = ParaphraseMiningEvaluator({"a": "a", "b": "b"}, [])(
        written_vectors({"a": [1, 0], "b": [1, 1]})
    )
    assert set(metrics.values()) == {0.0}
    with pytest.raises(InputError, match="at least two texts"):
        ParaphraseMiningEvaluator({"a": "a"}, [])
