"""What mining reads: neighbours of a join, and vectors, ids and texts in corpus order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from raybert.corpus.read import Columns
from raybert.corpus.search import Join, JoinReceipt, join_topk, read_ids
from raybert.corpus.texts import read_texts
from raybert.errors import ArtifactError, InputError
from raybert.index.source import Embeddings
from raybert.mining import Neighbours
from raybert.mining.paraphrases import distinct_pairs
from raybert.tracking import JobProgress
from raybert.vectors import TopK, TopPairs
from raybert.vectors.nearest import Rows
from raybert.vectors.topk import MISSING


def read_vectors(embeddings: Embeddings) -> npt.NDArray[np.float32]:
    """Return all vectors, [N, D], in memory."""
    return np.concatenate([vectors for _, vectors in embeddings.tables()])


def read_embedded_texts(
    embeddings: Embeddings, corpus: list[str] | None = None, column: str | None = None
) -> list[str]:
    """Return the text of every row, in corpus order.

    Args:
        embeddings: what was encoded.
        corpus: where the corpus lies now; None: where it lay when it was encoded.
        column: another column of the corpus to read instead, of text too.

    Raises:
        ArtifactError: a row's text is no longer there.
    """
    settings: dict[str, Any] = embeddings.manifest.settings
    columns = Columns(column or settings["text_column"], settings["id_column"])
    texts = read_texts(corpus or settings["corpus"], columns)
    ids = read_ids(embeddings).to_pylist()
    lost = next((identifier for identifier in ids if identifier not in texts), None)
    if lost is not None:
        raise ArtifactError(f"{embeddings.folder}: row {lost!r} is not in the corpus any more")
    return [texts[identifier] for identifier in ids]


def rows_of_ids(embeddings: Embeddings, wanted: list[str], what: str) -> npt.NDArray[np.int64]:
    """Return the row of each id.

    Raises:
        InputError: there is no such id; the message says `what` named it.
    """
    places = {identifier: row for row, identifier in enumerate(read_ids(embeddings).to_pylist())}
    missing = next((identifier for identifier in wanted if identifier not in places), None)
    if missing is not None:
        raise InputError(f"{what}: id {missing!r} is not in {embeddings.folder}")
    return np.array([places[identifier] for identifier in wanted], np.int64)


def join_all(join: Join, workers: int = 0) -> list[JoinReceipt]:
    """Run what is left of a join, showing how it goes; returns the receipts by query shard."""
    shards = join.queries.manifest.shards
    compared = sum(receipt.shard.rows for receipt in join.receipts().values())
    with JobProgress("compare", sum(each.rows for each in shards), "rows", compared) as progress:
        for receipt in join_topk(join, workers=workers):
            progress.advance(receipt.shard.rows)
    return [receipt for _, receipt in sorted(join.receipts().items())]


def joined_neighbours(join: Join, workers: int = 0) -> TopK:
    """Return the neighbours of all queries, [Q, K]: scores, and rows of the corpus as orders."""
    found = [join.neighbours(receipt) for receipt in join_all(join, workers)]
    scores, orders = zip(*((part.scores, part.orders) for part in found), strict=True)
    return TopK(np.concatenate(scores), np.concatenate(orders))


def joined_pairs(join: Join, max_pairs: int, workers: int = 0) -> TopPairs:
    """Return the most similar pairs of a set joined with itself, each once, best first.

    The join's `k` counts the row itself. Memory is bounded by `max_pairs` and one query shard.
    """
    rows, others = np.empty(0, np.int64), np.empty(0, np.int64)
    scores = np.empty(0, np.float32)
    first = 0
    for receipt in join_all(join, workers):
        found = join.neighbours(receipt)
        own = np.arange(first, first + len(found.orders), dtype=np.int64)
        first += len(own)
        itself = found.orders == own[:, None]
        itself[~itself.any(axis=1), -1] = True
        at, places = np.nonzero(~itself & (found.orders != MISSING))
        rows = np.concatenate([rows, own[at]])
        others = np.concatenate([others, found.orders[at, places]])
        scores = np.concatenate([scores, found.scores[at, places]])
        if len(scores) > 2 * max_pairs:
            # a pair stands here at most twice
            place = len(scores) - 2 * max_pairs
            kept = scores >= np.partition(scores, place)[place]
            rows, others, scores = rows[kept], others[kept], scores[kept]
    return distinct_pairs(rows, others, scores, max_pairs)


def neighbours_both_ways(
    sources: Embeddings, targets: Embeddings, out: str, k: int, workers: int = 0
) -> Neighbours:
    """Return the `k` nearest targets of every source by cosine, and sources of every target."""
    places = sources.folder.uri, targets.folder.uri
    forward, backward = (
        joined_neighbours(Join.open(one, other, out, k, "cosine"), workers)
        for one, other in (places, places[::-1])
    )
    return Neighbours(forward, backward)


def known_rows(
    queries: Embeddings, corpus: Embeddings, known: Mapping[str, Mapping[str, float]], what: str
) -> tuple[Rows, Rows]:
    """Return the rows of judged pairs of ids, those above grade 0: of queries, of the corpus.

    Raises:
        InputError: an id is not there; the message says `what` named it.
    """
    pairs = [(q, d) for q, judged in known.items() for d, grade in judged.items() if grade > 0]
    return (
        rows_of_ids(queries, [query for query, _ in pairs], what),
        rows_of_ids(corpus, [document for _, document in pairs], what),
    )
