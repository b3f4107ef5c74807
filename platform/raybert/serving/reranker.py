"""The reranking stage: a query and texts to one score a text, by cross-encoders."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.host import ModelHost
from raybert.serving.messages import ModelCard, ScoreCall, Scored, StageTimes


class Reranker(ModelHost):
    """Holds cross-encoders; a plain class, so that it runs with Ray or without."""

    async def score(self, call: ScoreCall) -> Scored:
        """Score pairs of the query and each text: the logistic function in float32, or raw.

        Half-precision logistics tie many scores, so it is taken after the upcast.

        Raises:
            RequestError: unknown model, one with several labels, or a pair that is too long.
            OverloadedError: the model's queue is full.
        """
        model = self.pick(call.model, "rerank")
        _check_single_label(model.card)
        pairs = [(call.query, text) for text in call.texts]
        found = await model.tokenize(pairs, call.truncate)
        computed = await model.compute(found.tokens)
        logits = np.array([row.reshape(-1)[0] for row in computed.rows], dtype=np.float32)
        return Scored(
            scores=logits if call.raw else logistic(logits),
            tokens=sum(found.tokens.lengths),
            truncated=found.truncated,
            times=StageTimes(found.milliseconds, computed.queue_ms, computed.compute_ms),
        )


def logistic(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)) in float32."""
    return np.asarray(torch.sigmoid(torch.from_numpy(logits)).numpy(), dtype=np.float32)


def _check_single_label(card: ModelCard) -> None:
    if card.labels in (0, 1):
        return
    message = f"model {card.name!r} gives {card.labels} labels; reranking needs one score"
    raise RequestError(FaultKind.WRONG_TASK, message, "model")
