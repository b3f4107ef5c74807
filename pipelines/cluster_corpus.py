"""Cluster a corpus: embeddings in, a cluster for every row and what each cluster is about out.

    python pipelines/cluster_corpus.py --embeddings artifacts/demo/embeddings \
        --method kmeans --clusters 20 --out artifacts/clusters

Run the same command again: it does nothing and says so.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from raybert.clustering import (
    Clusters,
    agglomerative,
    community_detection,
    describe_topics,
    kmeans,
)
from raybert.corpus.joined import read_embedded_texts, read_vectors
from raybert.corpus.pairs import done_before, write_result
from raybert.corpus.search import read_ids
from raybert.index.source import Embeddings
from raybert.settings import JobSettings, Names, run_job
from raybert.tracking import job
from raybert.vectors.nearest import Matrix, prepared


class ClusterCorpus(JobSettings):
    """Cluster a corpus: embeddings in, a cluster for every row and its topic out."""

    embeddings: str
    """Folder of the embeddings artifact."""
    method: Literal["kmeans", "mini-batch-kmeans", "agglomerative", "communities"] = "kmeans"
    """How; communities leave out rows that are near to too few."""
    clusters: int | None = Field(None, ge=1)
    """How many; needed for k-means, and for agglomerative unless --threshold is given."""
    threshold: float | None = Field(None, ge=-1, le=1)
    """Least cosine: of a community's members to its centre (default 0.75), or of clusters that
    agglomeration still joins."""
    min_size: int = Field(10, ge=1)
    """Rows in a community at least."""
    words: int = Field(10, ge=1)
    """Words that name a cluster."""
    seed: int = 0
    """Of k-means."""
    corpus: Names | None = None
    """Where the corpus lies now; default: where it lay when it was encoded."""


def main(settings: ClusterCorpus) -> str:
    """Cluster; returns where the clusters lie."""
    embeddings = Embeddings.open(settings.embeddings)
    inputs, asked = embeddings.inputs, settings.model_dump(mode="json")
    if (done := done_before(settings.out, "clusters", asked, inputs)) is not None:
        print(f"nothing to do: {done.rows:,} rows are clustered already")
        return settings.out

    with job(settings, name=f"cluster {Path(settings.out).name}", kind="cluster_corpus") as run:
        for item in inputs:
            run.input(item.kind, item.uri, item.fingerprint)
        texts = read_embedded_texts(embeddings, settings.corpus)
        rows = prepared(read_vectors(embeddings), "cosine")
        labels, found = _clusters(settings, rows)
        inside = np.flatnonzero(labels >= 0)
        topics = describe_topics(
            [texts[row] for row in inside], rows[inside], found, words=settings.words
        )
        ids = read_ids(embeddings)
        table = pa.table({"id": ids, "cluster": labels, "text": pa.array(texts, pa.large_string())})
        details = {
            "clusters": [
                {
                    "number": topic.number,
                    "size": topic.size,
                    "words": dict(topic.words),
                    "examples": [ids[int(inside[row])].as_py() for row in topic.examples],
                }
                for topic in topics
            ]
        }
        run.metrics({"clusters": len(topics), "clustered_rows": len(inside)})
        write_result(
            settings.out,
            "clusters",
            [table],
            settings=asked,
            inputs=inputs,
            details=details,
            mlflow_run=run.run_id,
        )
    for topic in sorted(topics, key=lambda topic: -topic.size)[:10]:
        print(f"{topic.size:6,}  {' '.join(word for word, _ in topic.words[:6])}")
    print(f"{len(topics):,} clusters of {len(inside):,} among {len(rows):,} rows")
    return settings.out


def _clusters(settings: ClusterCorpus, rows: Matrix) -> tuple[np.ndarray, Clusters]:
    """Return each row's cluster, -1 for none, and the clusters of the rows that have one."""
    if settings.method == "communities":
        threshold = 0.75 if settings.threshold is None else settings.threshold
        labels = np.full(len(rows), -1, np.int64)
        communities = community_detection(rows, threshold, settings.min_size)
        for number, members in enumerate(communities):
            labels[members] = number
        centres = rows[[members[0] for members in communities]]
        return labels, Clusters(labels[labels >= 0], centres)
    if settings.method == "agglomerative":
        found = agglomerative(rows, clusters=settings.clusters, threshold=settings.threshold)
    else:
        mini_batch = settings.method == "mini-batch-kmeans"
        found = kmeans(rows, settings.clusters or 0, seed=settings.seed, mini_batch=mini_batch)
    return found.labels, found


if __name__ == "__main__":
    run_job(ClusterCorpus, main)
