"""The search stage: encode, retrieve, fuse, rerank, answer; each index pinned to its model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raybert.errors import ArtifactError, InputError, OverloadedError, RaybertError
from raybert.fusion import Place
from raybert.records import Hit
from raybert.serving.changes import Changed, DeleteCall, UpsertCall
from raybert.serving.directory import Directory
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.generation import Generation, Leg
from raybert.serving.joining import join_legs
from raybert.serving.messages import (
    IndexCard,
    ScoreCall,
    SearchAnswer,
    SearchCall,
    SearchHit,
)
from raybert.serving.query_encoding import QueryEncoding
from raybert.serving.rollout import Rollout, pin
from raybert.serving.shared_terms import with_terms
from raybert.serving.tracing import trace_stages
from raybert.serving.trial import Trials
from raybert.serving.writer import IndexWriter

_CANDIDATES = 50


@dataclass(slots=True)
class _Progress:
    """One search under way: what each stage took, what was left out, when it must be done."""

    call: SearchCall
    began: float = field(default_factory=time.perf_counter)
    stages_ms: dict[str, float] = field(default_factory=dict)
    degraded: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    rows: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0

    def took(self, stage: str, since: float) -> None:
        milliseconds = _ms_since(since)
        self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + milliseconds
        trace_stages({stage: milliseconds}, index=self.call.index)

    def seconds_left(self) -> float | None:
        if self.call.deadline_ms is None:
            return None
        return max(0.0, self.call.deadline_ms / 1e3 - (time.perf_counter() - self.began))


class Searcher:
    """Answers queries from served indexes; a plain class, so that it runs with Ray or without.

    Args:
        generations: the indexes by served name.
        models: the model stages queries are encoded and candidates reranked by.
        reranker: served model for `rerank: true`; None takes the first that can.
    """

    def __init__(
        self,
        generations: Mapping[str, Generation],
        models: Directory,
        reranker: str | None = None,
    ) -> None:
        self.generations = dict(generations)
        self.rollouts = {
            name: Rollout(generation)
            for name, generation in self.generations.items()
            if generation.root is not None
        }
        self.models = models
        self.reranker = reranker
        self.encoding = QueryEncoding(models)
        self.writer = IndexWriter(models)
        self.trials = Trials(self._answer)

    async def pin(self) -> None:
        """Find for every leg the served model its vectors were made by.

        Raises:
            ArtifactError: no served model has the fingerprint a leg is pinned to.
        """
        for name in self.generations:
            await pin(self._in_place(name), self.models)

    async def cards(self) -> list[IndexCard]:
        """Return what is served here."""
        return [(await self._in_place(name).standing()).card() for name in self.generations]

    async def upsert(self, call: UpsertCall) -> Changed:
        """Write documents to a live index; see `IndexWriter.upsert`."""
        return await self.writer.upsert(self._in_place(call.index), call)

    async def delete(self, call: DeleteCall) -> Changed:
        """Delete a document of a live index; see `IndexWriter.delete`."""
        return await self.writer.delete(self._in_place(call.index), call)

    async def check(self) -> None:
        """Search every index for one word.

        Raises:
            ArtifactError: an index does not answer.
        """
        for name in self.generations:
            answer = await self.search(SearchCall(name, "ready?", top_k=1))
            if not answer.hits and (await self._in_place(name).standing()).rows:
                raise ArtifactError(f"index {name!r} answers nothing")

    async def search(self, call: SearchCall) -> SearchAnswer:
        """Answer one query, where a generation is tried perhaps by that one.

        Raises:
            RequestError: unknown index, leg or model; a deadline that passed before retrieval.
            OverloadedError: a model's queue is full.
        """
        generation = self._in_place(call.index)
        rollout = self.rollouts.get(call.index)
        canary = None if rollout is None else rollout.tried(call.query)
        if rollout is None or rollout.canary is None or canary is None:
            return await self._answer(generation, call)
        if not canary.shadow:
            return await self._answer(rollout.canary[0], call)
        answer = await self._answer(generation, call)
        self.trials.compare(generation, rollout.canary[0], call, answer)
        return answer

    async def _answer(self, chosen: Generation, call: SearchCall) -> SearchAnswer:
        progress = _Progress(call)
        generation = await chosen.standing()
        found = await self._retrieve(generation, call, progress)
        since = time.perf_counter()
        joined = join_legs(found, call.fusion)[: self._candidates(call)]
        progress.took("fuse", since)
        since = time.perf_counter()
        kept = joined if call.rerank is not None else joined[: call.top_k]
        hits = generation.answers(kept)
        progress.took("fetch", since)
        if call.rerank is not None:
            hits = await self._reranked(call, call.rerank, hits, progress)
        hits = hits[: call.top_k]
        if call.explain:
            hits = await self._explained(generation, hits, progress)
        progress.stages_ms["total"] = _ms_since(progress.began)
        return SearchAnswer(
            hits=hits,
            index=generation.name,
            generation=generation.fingerprint,
            models=progress.models,
            tokens=progress.tokens,
            stages_ms=progress.stages_ms,
            degraded=progress.degraded,
        )

    def _in_place(self, name: str) -> Generation:
        """Return the generation that is in place, and look whether it is still the current one."""
        if name not in self.generations:
            served = ", ".join(repr(each) for each in sorted(self.generations)) or "none"
            message = f"the index {name!r} is not served here; served are: {served}"
            raise RequestError(FaultKind.UNKNOWN_NAME, message, "index")
        rollout = self.rollouts.get(name)
        if rollout is None:
            return self.generations[name]
        rollout.look(self.models)
        return rollout.generation

    def _candidates(self, call: SearchCall) -> int:
        """Return how many hits each leg retrieves: more than wanted where they are reordered."""
        least = max(call.top_k, _CANDIDATES) if call.rerank is not None else call.top_k
        return max(call.top_k, call.candidates or least)

    async def _retrieve(
        self, generation: Generation, call: SearchCall, progress: _Progress
    ) -> dict[str, list[Hit]]:
        """Ask the chosen legs side by side; one that fails while another answers is left out."""
        legs = generation.pick(call.retrievers)
        seconds = progress.seconds_left()
        asked = [asyncio.wait_for(self._ask(leg, call, progress), seconds) for leg in legs.values()]
        found = await asyncio.gather(*asked, return_exceptions=True)
        answers: dict[str, list[Hit]] = {}
        faults: list[BaseException] = []
        for name, result in zip(legs, found, strict=True):
            if isinstance(result, BaseException):
                faults.append(result)
                if isinstance(result, InputError):
                    raise result  # what is asked cannot be answered: no leg is to be blamed
                progress.degraded[name] = _reason(result)
            else:
                answers[name] = result
        if not answers:
            raise faults[0]
        return answers

    async def _ask(self, leg: Leg, call: SearchCall, progress: _Progress) -> list[Hit]:
        """Encode the query by the leg's own model and search its index."""
        since = time.perf_counter()
        encoded = await self.encoding.encode(leg, call)
        progress.tokens += encoded.tokens
        progress.models[leg.name] = leg.reader
        progress.rows[leg.name] = encoded.rows
        progress.took(f"encode_{leg.name}", since)
        since = time.perf_counter()
        hits = await leg.search(encoded.rows, self._candidates(call), call.filter)
        progress.took(f"retrieve_{leg.name}", since)
        return hits

    async def _reranked(
        self, call: SearchCall, name: str, hits: list[SearchHit], progress: _Progress
    ) -> list[SearchHit]:
        """Order the candidates by the reranker; a late or full one leaves the order as it is."""
        since = time.perf_counter()
        model = name or self.reranker or (await self.models.first("rerank", "dense")).name
        score = ScoreCall(model, call.query, [hit.text for hit in hits])
        try:
            async with asyncio.timeout(progress.seconds_left()):
                scored = await self.models.score(score)
        except (TimeoutError, OverloadedError) as error:
            progress.degraded["rerank"] = _reason(error)
            return hits
        finally:
            progress.took("rerank", since)
        progress.tokens += scored.tokens
        progress.models["rerank"] = model
        return _reordered(hits, scored.scores.tolist())

    async def _explained(
        self, generation: Generation, hits: list[SearchHit], progress: _Progress
    ) -> list[SearchHit]:
        """Add the terms that mattered; what cannot be explained is still an answer."""
        since = time.perf_counter()
        try:
            async with asyncio.timeout(progress.seconds_left()):
                return await with_terms(hits, generation.legs, progress.rows, self.models)
        except (TimeoutError, RaybertError) as error:
            progress.degraded["explain"] = _reason(error)
            return hits
        finally:
            progress.took("explain", since)


def _reordered(hits: Sequence[SearchHit], scores: Sequence[float]) -> list[SearchHit]:
    """Sort by score, equal scores in retrieval order; note rank and score as a leg of its own."""
    order = sorted(range(len(hits)), key=lambda at: -scores[at])
    return [
        replace(
            hits[at],
            score=scores[at],
            legs={**hits[at].legs, "rerank": Place(rank, scores[at])},
        )
        for rank, at in enumerate(order, start=1)
    ]


def _reason(error: BaseException) -> str:
    return "late" if isinstance(error, TimeoutError) else " ".join(str(error).split())[:200]


def _ms_since(since: float) -> float:
    return (time.perf_counter() - since) * 1e3
