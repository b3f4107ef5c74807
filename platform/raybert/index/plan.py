"""The plan of a build: what decides the files of an index, beside the embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from raybert.errors import InputError
from raybert.index.kinds import pick_kind
from raybert.index.metric import pick_metric
from raybert.index.rescoring import STORES
from raybert.index.source import Source


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of a build, settled; arguments as for `build_index`."""

    kind: str
    shards: int
    metric: str
    rescore: str | None
    min_recall: float | None

    @classmethod
    def of(
        cls,
        source: Source,
        kind: str,
        shards: int,
        metric: str | None,
        rescore: str | None,
        min_recall: float | None,
    ) -> Plan:
        """Settle what the user left open, and check the rest.

        Raises:
            InputError: a setting is unknown, out of range, or does not go with the kind.
        """
        chosen = pick_kind(kind)
        ranked_by = pick_metric(metric or source.metric).name
        if ranked_by not in chosen.metrics:
            allowed = ", ".join(chosen.metrics)
            raise InputError(f"kind {kind!r} cannot rank by {ranked_by!r}: {allowed}")
        rows = source.rows
        if not 1 <= shards <= rows:
            raise InputError(f"shards {shards}: 1 to {rows}, the rows there are")
        if rescore is not None and chosen.store is None:
            raise InputError(f"kind {kind!r} keeps whole vectors and has nothing to rescore by")
        if rescore is not None and rescore not in STORES:
            raise InputError(f"rescore {rescore!r}: allowed are {', '.join(STORES)}")
        if min_recall is not None and not 0 < min_recall <= 1:
            raise InputError(f"min_recall {min_recall}: above 0 and up to 1")
        return cls(kind, shards, ranked_by, rescore or chosen.store, min_recall)

    @property
    def ranged(self) -> bool:
        """Whether bytes are kept anywhere, which need the corpus's ranges."""
        return pick_kind(self.kind).ranged or self.rescore == "int8"
