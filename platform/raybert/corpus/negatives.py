"""Hard negatives of a corpus of any size: the join's neighbours, read shard by shard."""

from __future__ import annotations

import numpy as np

from raybert.corpus.joined import join_all
from raybert.corpus.search import Join, scores_of
from raybert.index.source import Embeddings
from raybert.mining import (
    NegativeRules,
    Negatives,
    Positives,
    Teacher,
    choose_negatives,
)


def joined_negatives(
    queries: Embeddings,
    corpus: Embeddings,
    positives: Positives,
    rules: NegativeRules,
    out: str,
    *,
    teacher: Teacher | None = None,
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
        workers: tasks at a time; 0 takes the cluster's cores.
    """
    asked = teacher if rules.asks_scores else None
    depth = rules.window(positives.most, teacher=asked is not None) + positives.most
    join = Join.open(queries.folder.uri, corpus.folder.uri, out, depth)
    receipts = join_all(join, workers)
    scores = scores_of(join, positives.queries, positives.rows)
    parts, first = [], 0
    for receipt in receipts:
        own = positives.part(first, first + receipt.shard.rows)
        at = int(positives.offsets[first])
        part = scores[at : at + len(own.rows)].astype(np.float32)
        found = join.neighbours(receipt)
        parts.append(choose_negatives(found, own, part, rules, first=first, teacher=asked))
        first += receipt.shard.rows
    return Negatives.join(parts)
