"""The top-k join: for every row of one embeddings artifact its nearest rows of another.

Both sides are taken shard by shard on Ray. A task compares one shard of queries with some shards
of the corpus, one at a time; another merges what the tasks of a query shard found, writes it, and
then its receipt. So a task holds two shards and the lists, however large the corpus, what has a
receipt is never computed again, and the result is the same for any cut and any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray

from raybert.artifacts import Folder, Shard, fingerprint, read_table, write_table
from raybert.corpus.cluster import cluster_size, connect
from raybert.devices import set_threads
from raybert.errors import ArtifactError, InputError
from raybert.index.source import Embeddings
from raybert.records import ID
from raybert.settings import Settings
from raybert.vectors.bounds import Bounds
from raybert.vectors.nearest import PRODUCTS, Rows, nearest, pair_scores, prepared
from raybert.vectors.topk import MISSING, Scores, TopK

PROGRESS = "progress"
ROWS, SCORES = "rows", "scores"


class JoinReceipt(Settings):
    """Evidence that a shard of queries is done; written after its neighbours."""

    number: int
    """The query shard's number."""
    shard: Shard
    """Its neighbours: columns `rows` and `scores`, lists of `k`."""


@dataclass(frozen=True, slots=True)
class Join:
    """What is joined, and where the work lies.

    Args:
        queries: embeddings whose rows ask.
        corpus: embeddings whose rows answer; of the same model.
        out: folder the neighbours are written to, under `progress/`.
        k: neighbours a query; filled with row -1 and score -inf where the corpus is smaller.
        similarity: one of `SIMILARITIES`.
        least: the score of a neighbour at least.
    """

    queries: Embeddings
    corpus: Embeddings
    out: Folder
    k: int
    similarity: str
    least: float = -np.inf

    @classmethod
    def open(
        cls,
        queries: str,
        corpus: str,
        out: str,
        k: int,
        similarity: str | None = None,
        least: float | None = None,
    ) -> Join:
        """Open both sides; `least` None lets any row be a neighbour.

        Raises:
            ArtifactError: no embeddings there, or the two are of different models.
            InputError: k below 1.
        """
        left, right = Embeddings.open(queries), Embeddings.open(corpus)
        models = [side.manifest.input("model") for side in (left, right)]
        if models[0].fingerprint != models[1].fingerprint:
            raise ArtifactError(
                f"{queries} is of the model {models[0].uri}, {corpus} of {models[1].uri}: "
                "only embeddings of one model can be compared"
            )
        if k < 1:
            raise InputError(f"top-k {k}: at least 1 is allowed")
        floor = -np.inf if least is None else least
        folder = Folder(Folder(out).absolute)
        return cls(left, right, folder, k, similarity or right.metric, floor)

    @property
    def id(self) -> str:
        """Hash of what decides the result; how it is cut is no part of it."""
        sides = [side.manifest.fingerprint for side in (self.queries, self.corpus)]
        return fingerprint([*sides, self.k, self.similarity, str(self.least)])[:16]

    @property
    def place(self) -> str:
        """Where neighbours and receipts lie in the folder."""
        return f"{PROGRESS}/{self.id}"

    def receipts(self) -> dict[int, JoinReceipt]:
        """Return what earlier runs finished, by query shard."""
        names = [name for name in self.out.names(self.place) if name.endswith(".json")]
        read = [self.out.read_bytes(f"{self.place}/{name}") for name in names]
        receipts = [JoinReceipt.model_validate_json(data) for data in read]
        return {receipt.number: receipt for receipt in receipts}

    def neighbours(self, receipt: JoinReceipt) -> TopK:
        """Return the neighbours of a query shard: scores, and rows of the corpus as orders."""
        table = read_table(self.out, receipt.shard)
        rows, scores = (
            table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            for name in (ROWS, SCORES)
        )
        return TopK(scores.reshape(-1, self.k), rows.reshape(-1, self.k))


class _Work(NamedTuple):
    """What every task must know: the join, each corpus row's rank by id, how tiles are bounded."""

    join: Join
    ranks: Rows
    bounds: Bounds


def join_topk(join: Join, *, workers: int = 0, corpus_parts: int = 0) -> Iterator[JoinReceipt]:
    """Run what is left of a join; yields receipts as query shards are done.

    Equal scores are ordered by id. The driver holds the corpus's ids while it orders them.

    Args:
        join: what is joined.
        workers: tasks at a time; 0 takes the cluster's cores.
        corpus_parts: parts the corpus is cut into, compared side by side; 0 cuts it only where
            there are fewer query shards than workers.

    Raises:
        RaybertError: a damaged shard, vectors of two widths, NaN values: as told by a task.
    """
    done = join.receipts()
    waiting = [at for at in range(len(join.queries.manifest.shards)) if at not in done]
    if not waiting:
        return
    connect()
    workers = workers or max(1, int(cluster_size()[0]))
    parts = _parts(len(join.corpus.manifest.shards), corpus_parts or -(-workers // len(waiting)))
    shared = ray.put(_Work(join, _ranks(join.corpus), _bounds(join)))
    compare = ray.remote(num_cpus=1, max_retries=3)(_compare)
    finish = ray.remote(num_cpus=0.1, max_retries=3)(_finish)
    running: list[Any] = []
    most = max(1, -(-workers // len(parts))) + 1
    while waiting or running:
        while waiting and len(running) < most:
            at = waiting.pop(0)
            found = [compare.remote(shared, at, part) for part in parts]
            running.append(finish.remote(shared, at, *found))
        ready, running = ray.wait(running)
        yield from map(JoinReceipt.model_validate_json, ray.get(ready))


def scores_of(join: Join, queries: Rows, rows: Rows) -> Scores:
    """Return the similarity of given pairs (query row, corpus row), [P].

    Holds the queries' vectors, and the corpus one shard at a time.
    """
    asked = np.concatenate([vectors for _, vectors in join.queries.tables()])
    left = prepared(asked, join.similarity, str(join.queries.folder))
    scores = np.full(len(rows), -np.inf, np.float32)
    first = 0
    for _, vectors in join.corpus.tables():
        inside = np.flatnonzero((rows >= first) & (rows < first + len(vectors)))
        if len(inside):
            right = prepared(vectors, join.similarity, str(join.corpus.folder))
            own = rows[inside] - first
            scores[inside] = pair_scores(left, right, queries[inside], own, join.similarity)
        first += len(vectors)
    return scores


def read_ids(embeddings: Embeddings) -> Any:
    """Return the ids of all rows in corpus order, an Arrow array."""
    shards = embeddings.manifest.shards
    tables = [read_table(embeddings.folder, shard, [ID]) for shard in shards]
    return pc.cast(pa.concat_tables(tables)[ID], pa.large_string()).combine_chunks()


def _ranks(corpus: Embeddings) -> Rows:
    """Return the place of every row among all rows sorted by id."""
    order = pc.sort_indices(read_ids(corpus)).to_numpy().astype(np.int64)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _parts(shards: int, wanted: int) -> list[tuple[int, ...]]:
    """Cut the numbers of the shards into runs of nearly one length."""
    runs = np.array_split(np.arange(shards), max(1, min(wanted, shards)))
    return [tuple(run.tolist()) for run in runs]


def _bounds(join: Join) -> Bounds:
    """Learn from the first shards how tiles are bounded."""
    if join.similarity not in PRODUCTS:
        return Bounds()
    queries, corpus = (
        shard_vectors(side, 0, join.similarity) for side in (join.queries, join.corpus)
    )
    if queries.shape[1] != corpus.shape[1]:
        return Bounds()
    return Bounds.fit(queries, corpus, join.k, join.corpus.manifest.rows, join.least)


def shard_vectors(side: Embeddings, number: int, similarity: str) -> npt.NDArray[np.float32]:
    """Return the vectors [N, D] of one shard, ready to be compared."""
    one = side.manifest.model_copy(update={"shards": (side.manifest.shards[number],)})
    (_, vectors) = next(Embeddings(side.folder, one).tables())
    return prepared(vectors, similarity, side.folder.path(side.manifest.shards[number].file))


def _compare(work: _Work, at: int, part: Sequence[int]) -> TopK:
    """Compare one query shard with some corpus shards; orders are ranks by id."""
    join = work.join
    set_threads(1)
    queries = shard_vectors(join.queries, at, join.similarity)
    sizes = [shard.rows for shard in join.corpus.manifest.shards]
    found = TopK.empty(len(queries), join.k)
    for number in part:
        corpus = shard_vectors(join.corpus, number, join.similarity)
        first = sum(sizes[:number])
        found = nearest(
            queries,
            corpus,
            join.k,
            orders=work.ranks[first : first + len(corpus)],
            similarity=join.similarity,
            least=join.least,
            bounds=work.bounds,
            found=found,
        )
    return found


def _finish(work: _Work, at: int, *parts: TopK) -> str:
    """Merge what was found for a query shard, write it, then its receipt."""
    join, ranks = work.join, work.ranks
    found = parts[0]
    for part in parts[1:]:
        found = found.merge(part)
    by_rank = np.empty(len(ranks), np.int64)
    by_rank[ranks] = np.arange(len(ranks))
    rows = np.where(found.orders == MISSING, MISSING, by_rank[found.orders])
    table = pa.table({ROWS: _lists(rows), SCORES: _lists(found.scores)})
    shard = write_table(join.out, f"{join.place}/{at:05d}.parquet", table)
    receipt = JoinReceipt(number=at, shard=shard).model_dump_json()
    join.out.write_bytes(f"{join.place}/{at:05d}.json", receipt.encode())
    return receipt


def _lists(values: npt.NDArray[Any]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
