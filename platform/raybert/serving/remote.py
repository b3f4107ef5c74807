"""Stages behind Ray Serve handles: same methods, faults carried as values across the wire."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from raybert.errors import OverloadedError, RaybertError
from raybert.records import Hit
from raybert.serving.changes import Changed, DeleteCall, UpsertCall
from raybert.serving.faults import FaultKind, RequestError
from raybert.serving.messages import (
    Classified,
    ClassifyCall,
    EmbedCall,
    Embedded,
    IndexCard,
    ModelCard,
    ScoreCall,
    Scored,
    SearchAnswer,
    SearchCall,
    SparselyEmbedded,
)
from raybert.serving.metrics import Counted
from raybert.serving.preparing import Piece
from raybert.serving.retriever import RetrieveCall
from raybert.serving.stages import Gauges, summed

_T = TypeVar("_T")
_TRIES = 3


async def outcome(work: Awaitable[_T]) -> _T | RaybertError:
    """Return a result, or the fault that took its place.

    A fault is an answer here: raised through Ray it would be logged as a crash and wrapped.
    """
    try:
        return await work
    except RaybertError as error:
        return error


async def ask(handle: DeploymentHandle, method: str, *arguments: Any, tries: int = _TRIES) -> Any:
    """Call a stage's method and return its result.

    A replica that dies takes its calls with it; they are sent again, to another one: a stage
    computes the same anew, and an upsert writes the same rows under the same ids.

    Args:
        tries: how often a call is sent in all; 1 for what must not be done twice.

    Raises:
        RaybertError: the fault the stage answered with.
        OverloadedError: the stage's queue is full.
        RequestError: `NOT_READY` where no replica answers.
    """
    try:
        result = await getattr(handle, method).remote(*arguments)
    except BackPressureError:
        raise OverloadedError(f"the queue of the stage {method!r} is full") from None
    except (RayError, DeploymentUnavailableError) as error:
        if tries > 1 and isinstance(error, RayActorError):
            return await ask(handle, method, *arguments, tries=tries - 1)
        raise _not_ready(method) from error
    if isinstance(result, RaybertError):
        raise result
    return result


async def ask_all(handle: DeploymentHandle, method: str) -> list[Any]:
    """Call a method of every replica of a stage and return their results.

    Raises:
        RequestError: `NOT_READY` where one does not answer.
    """
    try:
        found: list[Any] = await handle.broadcast(method).results_async()
    except (RayError, DeploymentUnavailableError) as error:
        raise _not_ready(method) from error
    return found


def _not_ready(method: str) -> RequestError:
    message = f"the stage {method!r} is not ready"
    return RequestError(FaultKind.NOT_READY, message, retry_after_s=1.0)


class Peers:
    """All replicas of the deployment that this process is one of."""

    def __init__(self) -> None:
        self._handle: DeploymentHandle | None = None

    async def counted(self) -> list[Counted]:
        """Return what each replica has counted, this one included."""
        if self._handle is None:
            own = serve.get_replica_context()
            self._handle = serve.get_deployment_handle(own.deployment, own.app_name)
        return await ask_all(self._handle, "counted")


class RemoteModels:
    """The embedding or reranking stage behind a handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def cards(self) -> list[ModelCard]:
        """Return what is served there."""
        found: list[ModelCard] = await ask(self._handle, "cards")
        return found

    async def gauges(self) -> Gauges:
        """Return each model's batcher counters, summed over the replicas."""
        return summed(await ask_all(self._handle, "gauges"))

    async def pieces(
        self, name: str, texts: Sequence[str], special_tokens: bool, prompt_name: str | None
    ) -> list[list[Piece]]:
        """Return the tokens of texts with their places, never cut."""
        found: list[list[Piece]] = await ask(
            self._handle, "pieces", name, texts, special_tokens, prompt_name
        )
        return found

    async def decode(
        self, name: str, ids: Sequence[Sequence[int]], skip_special_tokens: bool
    ) -> list[str]:
        """Return the texts that token ids stand for."""
        found: list[str] = await ask(self._handle, "decode", name, ids, skip_special_tokens)
        return found

    async def classify(self, call: ClassifyCall) -> Classified:
        """Return one score a label for each text, or pair of texts."""
        found: Classified = await ask(self._handle, "classify", call)
        return found

    async def embed(self, call: EmbedCall) -> Embedded:
        """Return one vector a text."""
        embedded: Embedded = await ask(self._handle, "embed", call)
        return embedded

    async def embed_sparse(self, call: EmbedCall) -> SparselyEmbedded:
        """Return one sparse vector a text."""
        found: SparselyEmbedded = await ask(self._handle, "embed_sparse", call)
        return found

    async def similarities(self, call: ScoreCall) -> Scored:
        """Return one score a text: the similarity of its vector and the query's."""
        scored: Scored = await ask(self._handle, "similarities", call)
        return scored

    async def score(self, call: ScoreCall) -> Scored:
        """Return one score a text, given the query and the text together."""
        scored: Scored = await ask(self._handle, "score", call)
        return scored


class RemoteRetriever:
    """A part of a leg behind a handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def retrieve(self, call: RetrieveCall) -> list[list[Hit]]:
        """Return the part's best hits of every query."""
        found: list[list[Hit]] = await ask(self._handle, "retrieve", call)
        return found


class RemoteSearch:
    """The search stage behind a handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def cards(self) -> list[IndexCard]:
        """Return what is served there."""
        found: list[IndexCard] = await ask(self._handle, "cards")
        return found

    async def search(self, call: SearchCall) -> SearchAnswer:
        """Return the best hits of one query."""
        answer: SearchAnswer = await ask(self._handle, "search", call)
        return answer

    async def upsert(self, call: UpsertCall) -> Changed:
        """Write documents to a live index."""
        changed: Changed = await ask(self._handle, "upsert", call)
        return changed

    async def delete(self, call: DeleteCall) -> Changed:
        """Delete a document of a live index."""
        changed: Changed = await ask(self._handle, "delete", call, tries=1)
        return changed
