"""Which stage serves which model: names to cards, and scoring by whatever a model can do."""

from __future__ import annotations

from dataclasses import dataclass, field

from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.host import unknown_model
from raybert.serving.messages import (
    Classified,
    ClassifyCall,
    EmbedCall,
    Embedded,
    ModelCard,
    ScoreCall,
    Scored,
    SparselyEmbedded,
)
from raybert.serving.stages import Embeds, Gauges, Reranks


@dataclass(slots=True)
class Directory:
    """The model stages of a graph and the cards of what they serve.

    Args:
        embeds: the embedding stage, if the graph has one.
        reranks: the reranking stage, if the graph has one.
    """

    embeds: Embeds | None = None
    reranks: Reranks | None = None
    _cards: dict[str, ModelCard] = field(default_factory=dict)

    async def cards(self) -> dict[str, ModelCard]:
        """Return every served model by name; asked of the stages once.

        Raises:
            RequestError: `INTERNAL` where two stages serve one name.
        """
        known = self._cards
        if not known:
            found: dict[str, ModelCard] = {}
            for stage in (self.embeds, self.reranks):
                for card in await stage.cards() if stage is not None else ():
                    if card.name in found:
                        message = f"two stages serve a model named {card.name!r}"
                        raise RequestError(FaultKind.INTERNAL, message)
                    found[card.name] = card
            known = self._cards = found
        return known

    def forget(self) -> None:
        """Ask the stages anew what they serve: they may have been replaced."""
        self._cards = {}

    async def card(self, name: str) -> ModelCard:
        """Return the card of a served model.

        Raises:
            RequestError: `UNKNOWN_NAME`.
        """
        cards = await self.cards()
        if name not in cards:
            raise unknown_model(name, cards)
        return cards[name]

    async def first(self, *capabilities: str) -> ModelCard:
        """Return the first model with the earliest of these capabilities that any model has.

        Raises:
            RequestError: `WRONG_TASK` where no model has one of them.
        """
        cards = await self.cards()
        for capability in capabilities:
            for card in cards.values():
                if capability in card.capabilities:
                    return card
        message = f"no model here can do {' or '.join(capabilities)}"
        raise RequestError(FaultKind.WRONG_TASK, message, "model")

    async def embed(self, call: EmbedCall) -> Embedded:
        """Embed by the named model.

        Raises:
            RequestError: unknown model, or one that makes no vectors.
        """
        card = await self.card(call.model)
        if self.embeds is None or "dense" not in card.capabilities:
            raise _wrong_task(card, "make embeddings")
        return await self.embeds.embed(call)

    async def embed_sparse(self, call: EmbedCall) -> SparselyEmbedded:
        """Embed sparsely by the named model.

        Raises:
            RequestError: unknown model, or one that makes no sparse vectors.
        """
        card = await self.card(call.model)
        if self.embeds is None or "sparse" not in card.capabilities:
            raise _wrong_task(card, "make sparse embeddings")
        return await self.embeds.embed_sparse(call)

    async def score(self, call: ScoreCall) -> Scored:
        """Score by a cross-encoder, or by the similarity of vectors where the model makes those.

        Raises:
            RequestError: unknown model, or one that can do neither.
        """
        card = await self.card(call.model)
        if self.reranks is not None and "rerank" in card.capabilities:
            return await self.reranks.score(call)
        if self.embeds is not None and "dense" in card.capabilities:
            return await self.embeds.similarities(call)
        raise _wrong_task(card, "score texts")

    async def classify(self, call: ClassifyCall) -> Classified:
        """Classify by a cross-encoder.

        Raises:
            RequestError: unknown model, or one that is none.
        """
        card = await self.card(call.model)
        if self.reranks is None or "rerank" not in card.capabilities:
            raise _wrong_task(card, "classify")
        return await self.reranks.classify(call)

    async def stage(self, name: str) -> Embeds | Reranks:
        """Return the stage that serves a model.

        Raises:
            RequestError: unknown model.
        """
        card = await self.card(name)
        stage = self.reranks if "rerank" in card.capabilities else self.embeds
        assert stage is not None, "a card comes from a stage"
        return stage

    async def gauges(self) -> list[Gauges]:
        """Return the batcher counters of every stage."""
        stages = (self.embeds, self.reranks)
        return [await stage.gauges() for stage in stages if stage is not None]


def _wrong_task(card: ModelCard, task: str) -> RequestError:
    able = ", ".join(sorted(card.capabilities))
    message = f"model {card.name!r} cannot {task}; it can do: {able}"
    return RequestError(FaultKind.WRONG_TASK, message, "model")
