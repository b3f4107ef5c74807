"""A query as a leg takes it: encoded by the very model its index is pinned to, or as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from raybert.errors import ArtifactError
from raybert.serving.directory import Directory
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.generation import Leg
from raybert.serving.messages import EmbedCall, Embedded, SearchCall, SparselyEmbedded


@dataclass(frozen=True, slots=True)
class Encoded:
    """One query for an index.

    Args:
        rows: a vector [1, D], a sparse row [1, V], or the text.
        tokens: tokens it cost.
    """

    rows: Any
    tokens: int = 0


class QueryEncoding:
    """Encodes queries for legs.

    Args:
        models: the model stages.
    """

    def __init__(self, models: Directory) -> None:
        self._models = models

    async def encode(self, leg: Leg, call: SearchCall) -> Encoded:
        """Return the query for a leg; never by another model than its index's own.

        Raises:
            RequestError: `NOT_READY` where no served model has the fingerprint any more.
        """
        if leg.index.reads == "text":
            return Encoded([call.query])
        found = await self._asked(leg, call)
        if found.fingerprint != leg.index.model_fingerprint:
            found = await self._asked_again(leg, call)
        return Encoded(rows_of(found, leg), found.tokens)

    async def _asked(self, leg: Leg, call: SearchCall) -> Embedded | SparselyEmbedded:
        sparse = leg.index.reads == "sparse"
        width = leg.index.dimension
        embed = EmbedCall(
            leg.model.name,
            [call.query],
            task="query",
            dimensions=width if not sparse and width < leg.model.dimension else None,
            truncate=True,
            urgent=True,
            fingerprint=leg.index.model_fingerprint,
        )
        return await (self._models.embed_sparse(embed) if sparse else self._models.embed(embed))

    async def _asked_again(self, leg: Leg, call: SearchCall) -> Embedded | SparselyEmbedded:
        """Ask the served model that has the leg's fingerprint now that its name moved on."""
        self._models.forget()
        try:
            leg.pin(call.index, (await self._models.cards()).values())
            found = await self._asked(leg, call)
        except ArtifactError as error:
            raise _moved_on(leg, call) from error
        if found.fingerprint != leg.index.model_fingerprint:
            raise _moved_on(leg, call)
        return found


def _moved_on(leg: Leg, call: SearchCall) -> RequestError:
    message = f"model {leg.model.name!r} changed under the index {call.index!r}"
    return RequestError(FaultKind.NOT_READY, message, retry_after_s=1.0)


def rows_of(found: Embedded | SparselyEmbedded, leg: Leg) -> Any:
    """Return what a model made as the leg's index takes it: [N, D] or sparse [N, V]."""
    if isinstance(found, Embedded):
        return found.vectors
    starts = np.cumsum([0, *(len(row.terms) for row in found.rows)])
    terms = np.concatenate([row.terms for row in found.rows])
    weights = np.concatenate([row.weights for row in found.rows])
    return csr_array((weights, terms, starts), shape=(len(found.rows), leg.index.dimension))
