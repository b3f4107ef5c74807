"""The report of a clustering: what each cluster is about, how good they are, and a map."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from raybert.artifacts import Folder
from raybert.clustering import Clusters, cluster_quality, describe_topics
from raybert.clustering.maps import MOST_POINTS, map_page, map_picture, positions
from raybert.corpus.clusters import sample_rows
from raybert.index.source import Embeddings

_QUALITY_ROWS = 20_000


def report_clusters(
    folder: Folder,
    embeddings: Embeddings,
    texts: Sequence[str],
    clusters: Clusters,
    *,
    truth: Sequence[str] | None = None,
    words: int = 10,
) -> dict[str, Any]:
    """Write `report.json`, `report.md`, `map.png` and `map.html`; returns what the JSON holds.

    Args:
        folder: where to.
        embeddings: what was clustered, N rows.
        texts: [N].
        clusters: the cluster of every row, -1 where it has none.
        truth: [N] labels that people gave, if they did.
        words: words a topic.
    """
    rows = sample_rows(embeddings, _QUALITY_ROWS)
    step = max(1, -(-embeddings.manifest.rows // _QUALITY_ROWS))
    at = np.arange(0, embeddings.manifest.rows, step)
    inside = np.flatnonzero(clusters.labels[at] >= 0)
    part = Clusters(clusters.labels[at[inside]], clusters.centres)
    topics = describe_topics(texts, rows, clusters, at=at, words=words)
    known = None if truth is None else [truth[row] for row in at[inside]]
    quality = cluster_quality(rows[inside], part, known)
    shown = slice(None, None, max(1, -(-len(at) // MOST_POINTS)))
    places, labels = positions(rows[shown]), clusters.labels[at[shown]]
    folder.write_bytes("map.png", map_picture(places, labels, topics))
    drawn = [texts[row] for row in at[shown]]
    page = map_page(
        f"{len(topics)} clusters of {len(texts):,} texts", places, labels, drawn, topics
    )
    folder.write_bytes("map.html", page.encode())
    report = {
        "rows": len(texts),
        "clustered": int((clusters.labels >= 0).sum()),
        "quality": quality,
        "clusters": [
            asdict(topic) | {"examples": [texts[row][:300] for row in topic.examples]}
            for topic in topics
        ],
    }
    folder.write_bytes("report.json", json.dumps(report, indent=1, ensure_ascii=False).encode())
    folder.write_bytes("report.md", _markdown(report).encode())
    return report | {"topics": topics}


def _markdown(report: dict[str, Any]) -> str:
    lines = [
        f"# {len(report['clusters'])} clusters of {report['rows']:,} texts",
        "",
        f"{report['clustered']:,} texts are in a cluster. "
        + ", ".join(f"{name} {value:.3f}" for name, value in report["quality"].items()),
        "",
        "![Map](map.png) The same to explore: [map.html](map.html)",
        "",
        "| cluster | texts | words | most central |",
        "|---|---|---|---|",
    ]
    for cluster in sorted(report["clusters"], key=lambda cluster: -cluster["size"]):
        words = " ".join(word for word, _ in cluster["words"])
        example = " ".join((cluster["examples"] or [""])[0].split())[:120].replace("|", "\\|")
        lines.append(f"| {cluster['number']} | {cluster['size']:,} | {words} | {example} |")
    return "\n".join(lines) + "\n"
