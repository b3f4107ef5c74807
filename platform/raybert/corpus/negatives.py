"""Hard negatives of a corpus of any size: the join's neighbours, read shard by shard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybert.artifacts import Folder, read_manifest, read_table
from raybert.corpus.joined import join_all, joined_neighbours
from raybert.corpus.search import Join, read_ids, scores_of
from raybert.errors import ArtifactError, InputError
from raybert.evaluation.run import RANKING
from raybert.index.source import Embeddings
from raybert.mining import (
    NegativeRules,
    Negatives,
    Positives,
    Teacher,
    choose_negatives,
    merge_retrieved,
)
from raybert.mining.hard_negatives import DENSE, scored
from raybert.vectors.nearest import Rows
from raybert.vectors.topk import MISSING


def joined_negatives(
    queries: Embeddings,
    corpus: Embeddings,
    positives: Positives,
    rules: NegativeRules,
    out: str,
    *,
    teacher: Teacher | None = None,
    runs: Sequence[str] = (),
    merge: str = "union",
    workers: int = 0,
) -> Negatives:
    """Compare, then choose the negatives of one query shard after another.

    Args:
        queries: embeddings of the anchors.
        corpus: embeddings of the texts to mine in.
        positives: rows of the corpus that belong to each query.
        rules: what makes a negative.
        out: the job's folder, where neighbours are kept until the job is done.
        teacher: scores candidates where a rule looks at scores.
        runs: what other retrievers found, artifacts of search_corpus; with them the candidates of
            all queries are held at once.
        merge: how they are joined with the neighbours: `union` or `rrf`.
        workers: tasks at a time; 0 takes the cluster's cores.

    Raises:
        ArtifactError: no run there.
        InputError: a run of another corpus.
    """
    asked = teacher if rules.asks_scores else None
    depth = rules.window(positives.most, teacher=asked is not None) + positives.most
    join = Join.open(queries.folder.uri, corpus.folder.uri, out, depth)
    receipts = join_all(join, workers)
    scores = scores_of(join, positives.queries, positives.rows)
    by = found = None
    if runs:
        lists = {DENSE: joined_neighbours(join).orders}
        ids = read_ids(queries), read_ids(corpus)
        by = merge_retrieved(lists | read_runs(runs, *ids, depth), merge)
        found = scored(by, lambda at, rows: scores_of(join, at, rows))
    parts, first = [], 0
    for receipt in receipts:
        last = first + receipt.shard.rows
        own = positives.part(first, last)
        at = int(positives.offsets[first])
        part = scores[at : at + len(own.rows)].astype(np.float32)
        near = join.neighbours(receipt) if found is None else found.part(first, last)
        of = None if by is None else by.part(first, last)
        parts.append(choose_negatives(near, own, part, rules, first=first, teacher=asked, by=of))
        first = last
    return Negatives.join(parts)


def read_runs(
    runs: Sequence[str], query_ids: pa.Array, corpus_ids: pa.Array, k: int
) -> dict[str, Rows]:
    """Return the `k` best rows of every query, [Q, k], by the name of each run's folder.

    Raises:
        ArtifactError: no run there, or two of one name.
        InputError: it ranks a text that is not in the corpus, or none of the queries.
    """
    lists: dict[str, Rows] = {}
    for uri in runs:
        name = uri.rstrip("/").rpartition("/")[2]
        if name in (*lists, DENSE):
            raise ArtifactError(f"{uri}: another retriever is called {name!r} too")
        lists[name] = _read_run(Folder(uri), query_ids, corpus_ids, k)
    return lists


def _read_run(folder: Folder, query_ids: pa.Array, corpus_ids: pa.Array, k: int) -> Rows:
    manifest = read_manifest(folder, kind="run")
    shard = next(shard for shard in manifest.shards if shard.file == RANKING)
    table = read_table(folder, shard, ["query_id", "rank", "id"])
    known, rows = (
        pc.index_in(pc.cast(table[name], pa.large_string()), value_set=values)
        for name, values in (("query_id", query_ids), ("id", corpus_ids))
    )
    if rows.null_count:
        lost = table["id"].filter(pc.is_null(rows))[0].as_py()
        raise InputError(f"{folder}: ranks id {lost!r}, which is not in the corpus")
    asked = pc.and_(pc.is_valid(known), pc.less_equal(table["rank"], k)).to_numpy()
    if len(asked) and not pc.any(pc.is_valid(known)).as_py():
        raise InputError(f"{folder}: ranks none of the queries")
    found = np.full((len(query_ids), k), MISSING, np.int64)
    at, place, row = (
        column.to_numpy()[asked].astype(np.int64) for column in (known, table["rank"], rows)
    )
    found[at, place - 1] = row
    return found
