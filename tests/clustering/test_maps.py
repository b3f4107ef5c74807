from __future__ import annotations

import json

import numpy as np

from raybert.clustering import Topic
from raybert.clustering.maps import map_page, map_picture, positions
from raybert.vectors.nearest import prepared

TOPICS = [Topic(0, 3, (("cats", 0.5),), (0,)), Topic(1, 2, (("dogs", 0.4),), (3,))]
LABELS = np.array([0, 0, 0, 1, 1, -1])


def test_near_rows_lie_near() -> None:
    rng = np.random.default_rng(0)
    rows = prepared(
        np.repeat(np.eye(2, 8), 20, axis=0) * 5 + rng.normal(size=(40, 8)) * 0.2, "cosine"
    )
    places = positions(rows)
    assert places.shape == (40, 2)
    first, second = places[:20], places[20:]
    spread = np.linalg.norm(first - first.mean(axis=0), axis=1).mean()
    assert np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)) > 2 * spread
    assert positions(rows[:3]).shape == (3, 2)


def test_the_picture_is_a_png() -> None:
    places = np.random.default_rng(0).normal(size=(6, 2))
    assert map_picture(places, LABELS, TOPICS)[:4] == b"\x89PNG"


def test_the_page_holds_its_texts_and_no_text_ends_its_script() -> None:
    places = np.zeros((6, 2))
    texts = ["cats", "more cats", "</script><b>bold</b>", "dogs", "a dog", "neither"]
    page = map_page("Two topics", places, LABELS, texts, TOPICS)
    assert page.count("</script>") == 1
    data = json.loads(page.split("const map = ")[1].split(";\nconst canvas")[0])
    assert [point[3] for point in data["points"]] == texts
    assert [topic["words"] for topic in data["topics"]] == [["cats"], ["dogs"]]
    assert "/*MAP*/" not in page
