"""The reranking stage: a query and texts to one score a text, by cross-encoders."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.host import ModelHost
from raybert.serving.messages import (
    Classified,
    ClassifyCall,
    ModelCard,
    ScoreCall,
    Scored,
)


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
            times=model.times(found, computed),
        )

    async def classify(self, call: ClassifyCall) -> Classified:
        """Score texts, or pairs of texts, by label: probabilities in float32, or raw.

        One label gets the logistic function, several the softmax.

        Raises:
            RequestError: unknown model, or an input that is too long.
            OverloadedError: the model's queue is full.
        """
        model = self.pick(call.model, "rerank")
        found = await model.tokenize(call.inputs, call.truncate, call.side)
        computed = await model.compute(found.tokens)
        logits = np.stack(computed.rows).reshape(len(call.inputs), -1)
        return Classified(
            scores=logits if call.raw else probabilities(logits),
            tokens=sum(found.tokens.lengths),
            truncated=found.truncated,
            times=model.times(found, computed),
        )


def probabilities(logits_BL: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logistic function of one label, the softmax of several; in float32."""
    if logits_BL.shape[1] == 1:
        return logistic(logits_BL)
    softened = torch.softmax(torch.from_numpy(logits_BL), dim=1)
    return np.asarray(softened.numpy(), dtype=np.float32)


def logistic(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)) in float32."""
    return np.asarray(torch.sigmoid(torch.from_numpy(logits)).numpy(), dtype=np.float32)


def _check_single_label(card: ModelCard) -> None:
    if card.labels in (0, 1):
        return
    message = f"model {card.name!r} gives {card.labels} labels; reranking needs one score"
    raise RequestError(FaultKind.WRONG_TASK, message, "model")
