"""Cluster a corpus: embeddings in, a cluster for every row, and a report of what each is about.

    python pipelines/cluster_corpus.py --embeddings artifacts/demo/embeddings \
        --method kmeans --clusters 20 --out artifacts/clusters

The report is a table, a picture and a page to explore (map.html). Run the same command again: it
does nothing and says so.
"""

from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field

from raybert.artifacts import Folder
from raybert.corpus import Columns
from raybert.corpus.cluster_report import report_clusters
from raybert.corpus.clusters import ClusterRules, cluster_rows
from raybert.corpus.joined import read_embedded_texts
from raybert.corpus.pairs import Result, produce
from raybert.corpus.search import read_ids
from raybert.corpus.sides import SideEncoder
from raybert.index.source import Embeddings
from raybert.settings import JobSettings, Names, run_job


class ClusterCorpus(JobSettings):
    """Cluster a corpus: embeddings in, a cluster for every row and its topic out."""

    embeddings: Names
    """One folder of embeddings, or files of texts."""
    model: str | None = None
    """Model that encodes texts; embeddings must be of it."""
    text_column: str = "text"
    """Column that holds the text."""
    id_column: str = "id"
    """Column that holds the row's unique id."""
    label_column: str | None = None
    """Column that holds the label people gave each text, to judge the clusters by."""
    method: Literal["kmeans", "mini-batch-kmeans", "agglomerative", "communities", "topics"] = (
        "kmeans"
    )
    """How; communities leave out rows that are near to too few; topics are those of k-means."""
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
    """Where the texts of embeddings lie now; default: where they lay when they were encoded."""
    workers: int = Field(0, ge=0)
    """Tasks at a time; 0: the cluster's cores."""
    device: str = "auto"
    """auto, cpu or cuda, for the model."""


def main(settings: ClusterCorpus) -> str:
    """Cluster; returns where the clusters lie."""
    columns = Columns(settings.text_column, settings.id_column)
    sides = SideEncoder(settings.out, settings.model, columns, settings.workers, settings.device)
    embeddings = sides.open(settings.embeddings, "corpus")
    return produce(
        settings,
        "cluster_corpus",
        "clusters",
        embeddings.inputs,
        lambda _: _cluster(settings, embeddings),
    )


def _cluster(settings: ClusterCorpus, embeddings: Embeddings) -> Result:
    """Cluster the rows, then write the report and the table."""
    rules = ClusterRules(**settings.model_dump(include=set(ClusterRules.model_fields)))
    found = cluster_rows(embeddings, rules, settings.workers)
    texts = read_embedded_texts(embeddings, settings.corpus)
    truth = None
    if settings.label_column is not None:
        truth = read_embedded_texts(embeddings, settings.corpus, settings.label_column)
    report = report_clusters(
        Folder(settings.out), embeddings, texts, found, truth=truth, words=settings.words
    )
    ids = read_ids(embeddings)
    columns = {"id": ids, "cluster": found.labels, "text": pa.array(texts, pa.large_string())}
    described = [
        {
            "number": topic.number,
            "size": topic.size,
            "words": dict(topic.words),
            "examples": [ids[row].as_py() for row in topic.examples],
        }
        for topic in report["topics"]
    ]
    for topic in sorted(report["topics"], key=lambda topic: -topic.size)[:10]:
        print(f"{topic.size:6,}  {' '.join(word for word, _ in topic.words[:6])}")
    said = f"{len(described):,} clusters of {report['clustered']:,} among {len(ids):,} rows; "
    said += f"the map: {Path(settings.out) / 'map.html'}"
    return Result(pa.table(columns), {"clusters": described, **report["quality"]}, said)


if __name__ == "__main__":
    run_job(ClusterCorpus, main)
