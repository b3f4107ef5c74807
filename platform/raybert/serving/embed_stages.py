"""Several embedding stages as one: each model is asked of the stage that serves it."""

from __future__ import annotations

from collections.abc import Sequence

from raybert.serving.host import unknown_model
from raybert.serving.messages import (
    EmbedCall,
    Embedded,
    ModelCard,
    ScoreCall,
    Scored,
    SparselyEmbedded,
)
from raybert.serving.preparing import Piece
from raybert.serving.stages import Embeds, Gauges, summed


class EmbedStages:
    """Encoders in stages of their own, each with its replicas, device and batches.

    Args:
        stages: the stages; the names of their models differ.
    """

    def __init__(self, stages: Sequence[Embeds]) -> None:
        self._stages = tuple(stages)
        self._by_name: dict[str, Embeds] = {}

    async def cards(self) -> list[ModelCard]:
        """Return what is served by any stage."""
        found: list[ModelCard] = []
        for stage in self._stages:
            cards = await stage.cards()
            self._by_name.update({card.name: stage for card in cards})
            found += cards
        return found

    async def gauges(self) -> Gauges:
        """Return each model's batcher counters."""
        return summed([await stage.gauges() for stage in self._stages])

    async def pieces(
        self, name: str, texts: Sequence[str], special_tokens: bool, prompt_name: str | None
    ) -> list[list[Piece]]:
        """Return the tokens of texts with their places, never cut."""
        return await (await self._of(name)).pieces(name, texts, special_tokens, prompt_name)

    async def decode(
        self, name: str, ids: Sequence[Sequence[int]], skip_special_tokens: bool
    ) -> list[str]:
        """Return the texts that token ids stand for."""
        return await (await self._of(name)).decode(name, ids, skip_special_tokens)

    async def embed(self, call: EmbedCall) -> Embedded:
        """Return one vector a text."""
        return await (await self._of(call.model)).embed(call)

    async def embed_sparse(self, call: EmbedCall) -> SparselyEmbedded:
        """Return one sparse vector a text."""
        return await (await self._of(call.model)).embed_sparse(call)

    async def similarities(self, call: ScoreCall) -> Scored:
        """Return one score a text: the similarity of its vector and the query's."""
        return await (await self._of(call.model)).similarities(call)

    async def _of(self, name: str) -> Embeds:
        """Return the stage that serves a model; a promotion leaves it where it is."""
        if name not in self._by_name:
            await self.cards()
        if name not in self._by_name:
            raise unknown_model(name, self._by_name)
        return self._by_name[name]
