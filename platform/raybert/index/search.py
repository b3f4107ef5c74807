"""An index: shards searched one after the other, their lists merged, ids put in place of rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Protocol

from raybert.artifacts import Manifest
from raybert.errors import InputError
from raybert.index.documents import Documents
from raybert.index.filters import Filter, Mask
from raybert.index.metric import Metric, pick_metric
from raybert.index.queries import Queries, QueryReader
from raybert.records import Hit
from raybert.vectors import TopK
from raybert.vectors.topk import MISSING


class ShardSearch(Protocol):
    """Search in one shard; a kind of index is one class of this shape."""

    effort: int
    """How far a search looks; what it counts is the kind's own affair."""

    def __len__(self) -> int: ...

    def search(self, queries: Any, k: int, allowed: Mask | None = None) -> TopK:
        """Return the best rows of prepared queries, of the rows [N] allowed (all if None).

        `MISSING` fills what was not found.
        """
        ...


class Index:
    """An opened index, pinned to the embeddings and the model it was made from.

    >>> index = open_index("runs/faq-index")               # doctest: +SKIP
    >>> index.search(encoder.encode_query(texts), 10)      # doctest: +SKIP

    Args:
        manifest: what the artifact says of itself.
        shards: one searcher a shard.
        documents: ids and payload, in the same shards.
        reader: what turns queries into rows for the shards.
    """

    def __init__(
        self,
        manifest: Manifest,
        shards: Sequence[ShardSearch],
        documents: Documents,
        reader: QueryReader,
    ) -> None:
        self.manifest = manifest
        self.documents = documents
        self._shards = tuple(shards)
        self.reader = reader

    def __len__(self) -> int:
        return self.manifest.rows

    @property
    def kind(self) -> str:
        """How it searches: one of `KINDS`."""
        return str(self.manifest.details["kind"])

    @property
    def reads(self) -> str:
        """What its queries are: `dense` vectors, `sparse` rows, or `text` (no model is needed)."""
        return str(self.manifest.details.get("reads", "dense"))

    @property
    def dimension(self) -> int:
        """Width of its vectors, and of the queries it takes."""
        return int(self.manifest.details["dimension"])

    @property
    def metric(self) -> Metric:
        """The similarity it ranks by."""
        return pick_metric(self.manifest.details["metric"])

    @property
    def effort(self) -> int:
        """How far a search looks; set it to trade time for recall. An exact kind ignores it."""
        return self._shards[0].effort

    @effort.setter
    def effort(self, effort: int) -> None:
        for shard in self._shards:
            shard.effort = effort

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the job that encoded its texts: model, prompt_name, truncate_dim."""
        return dict(self.manifest.details["encoding"])

    @property
    def generation(self) -> str:
        """The fingerprint of this very index."""
        return self.manifest.fingerprint

    @property
    def model_fingerprint(self) -> str:
        """The model that queries must be encoded by."""
        return self.manifest.input("model").fingerprint

    @property
    def model_uri(self) -> str:
        """Where that model lay when the texts were encoded."""
        return self.manifest.input("model").uri

    def search(
        self, queries: Queries, top_k: int = 10, filter: Filter | None = None
    ) -> list[list[Hit]]:
        """Return the best hits of every query: by falling score, equal scores by rising id.

        Args:
            queries: [Q, D] vectors of the index's own model, one vector [D] being one query; sparse
                rows [Q, V]; or texts, as `reads` says.
            top_k: hits wanted a query; all documents where there are fewer.
            filter: conditions that the documents of hits fulfil, see `raybert.index.filters`.

        Raises:
            InputError: wrong width, NaN or infinite values, top_k below 1, a filter on a column
                that is not there.
        """
        if top_k < 1:
            raise InputError(f"top_k {top_k}: at least 1 is allowed")
        return self.nearest(self.reader(queries), top_k, filter)

    def nearest(self, rows: Any, top_k: int, filter: Filter | None = None) -> list[list[Hit]]:
        """Search for queries that a reader like its own has prepared; else as `search`."""
        count = int(rows.shape[0])
        if not count:
            return []
        lists = [
            self._hits(at, shard.search(rows, top_k, allowed))
            for at, (shard, allowed) in enumerate(
                zip(self._shards, self.documents.passing(filter), strict=True)
            )
        ]
        return [merged([part[query] for part in lists], top_k) for query in range(count)]

    def _hits(self, shard: int, found: TopK) -> list[list[Hit]]:
        """Return what one shard found for every query, ids in place of rows."""
        there = found.orders != MISSING
        ids = self.documents.shards[shard].ids(found.orders[there])
        hits = map(Hit, ids, found.scores[there].tolist())
        return [list(islice(hits, held)) for held in there.sum(axis=1).tolist()]


def merged(lists: Sequence[list[Hit]], top_k: int) -> list[Hit]:
    """Return the best hits of several shards: by falling score, equal scores by rising id."""
    hits = [hit for part in lists for hit in part]
    if len(lists) > 1:
        hits.sort(key=lambda hit: (-hit.score, hit.id))
    return hits[:top_k]
