from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from raybert.serving import FaultKind, RequestError, Reranker
from raybert.serving.messages import ScoreCall
from raybert.serving.reranker import logistic
from raybert.serving.served_model import ServedModel

Run = Callable[[Awaitable[Any]], Any]


def test_scores_are_the_logistic_of_the_logits(run: Run, reranker: Reranker) -> None:
    texts = ["the cat", "a dog", "the cat sat"]
    scored = run(reranker.score(ScoreCall("cross", "the cat sat", texts)))
    np.testing.assert_allclose(scored.scores, 1 / (1 + np.exp([-1.0, 1.0, -2.0])))
    assert scored.scores.dtype == np.float32


def test_near_logits_stay_apart_in_float32() -> None:
    logits = np.array([6.00, 6.01, 6.02], dtype=np.float32)
    assert len(set(logistic(logits).tolist())) == 3
    assert len(set(logistic(logits).astype(np.float16).tolist())) == 1


def test_several_labels_are_no_ranking(run: Run, cross: Any) -> None:
    cross.num_labels = 3
    reranker = Reranker([ServedModel("cross", cross)])
    with pytest.raises(RequestError, match="3 labels") as caught:
        run(reranker.score(ScoreCall("cross", "cat", ["cat"])))
    assert caught.value.kind is FaultKind.WRONG_TASK
