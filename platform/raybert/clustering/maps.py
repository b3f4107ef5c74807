"""A map of clusters in two dimensions: positions, a picture, and a page to explore."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from raybert.clustering.topics import Topic
from raybert.vectors.bounds import Matrix

MOST_POINTS = 2_000
"""Rows on a map at most; of more, some at even distances are drawn."""
_SHOWN = 160
_NAMED = 12
_SLOT = "/*MAP*/"


def positions(rows: Matrix, seed: int = 0) -> npt.NDArray[np.float64]:
    """Lay rows [N, D] out in the plane, [N, 2]: near rows near (t-SNE, started from PCA)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(rows) < 5:
        return np.column_stack([np.arange(len(rows)), np.zeros(len(rows))]).astype(np.float64)
    width = min(50, rows.shape[1], len(rows) - 1)
    narrow = PCA(width, random_state=seed).fit_transform(rows)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    flat = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(narrow)
    return np.asarray(flat, np.float64)


def map_picture(
    places: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], topics: Sequence[Topic]
) -> bytes:
    """Draw the map as a PNG; the largest clusters are named by their words."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), dpi=110)
    axes = figure.subplots()
    x, y = places.T
    out, own = labels < 0, labels >= 0
    axes.scatter(x[out], y[out], 5, "0.85", linewidths=0)
    axes.scatter(x[own], y[own], 9, labels[own] % 20, cmap="tab20", vmin=0, vmax=19, linewidths=0)
    for topic in sorted(topics, key=lambda topic: -topic.size)[:_NAMED]:
        members = labels == topic.number
        if members.any():
            words = " ".join(word for word, _ in topic.words[:3])
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5}
            middle = float(np.median(x[members])), float(np.median(y[members]))
            axes.text(*middle, words, fontsize=8, ha="center", bbox=box)
    axes.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def map_page(
    title: str,
    places: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    texts: Sequence[str],
    topics: Sequence[Topic],
) -> str:
    """Return a page that stands alone: hover for texts, click a topic, search for words.

    Args:
        title: of the page.
        places: [M, 2].
        labels: [M] cluster of each point, -1 for none.
        texts: [M].
        topics: all clusters.
    """
    data = {
        "title": title,
        "points": [
            [round(x, 2), round(y, 2), label, text[:_SHOWN]]
            for (x, y), label, text in zip(places.tolist(), labels.tolist(), texts, strict=True)
        ],
        "topics": [
            {"number": topic.number, "size": topic.size, "words": [word for word, _ in topic.words]}
            for topic in sorted(topics, key=lambda topic: -topic.size)
        ],
    }
    # a text may hold what would end the script
    written = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    page = files("raybert.clustering").joinpath("map.html").read_text(encoding="utf-8")
    return page.replace(_SLOT, written)
