from __future__ import annotations

import numpy as np
import pytest

from raybert.clustering import Clusters, describe_topics
from raybert.errors import InputError
from raybert.vectors.nearest import prepared

TEXTS = ["cats purr and cats sleep", "a cat and cats", "dogs bark", "dogs dig and bark", "dogs"]
ROWS = prepared(np.array([[1, 0], [1, 0.5], [0, 1], [0.1, 1], [0.6, 1]]), "cosine")
CLUSTERS = Clusters(np.array([0, 0, 1, 1, 1]), prepared(np.eye(2), "cosine"))


def test_words_set_clusters_apart_and_examples_are_central() -> None:
    cats, dogs = describe_topics(TEXTS, ROWS, CLUSTERS, words=2, examples=2)
    assert [cats.size, dogs.size] == [2, 3]
    assert cats.words[0][0] == "cats"
    assert [word for word, _ in dogs.words] == ["dogs", "bark"]
    assert cats.examples == (0, 1)
    assert dogs.examples == (2, 3)


def test_the_weight_is_the_papers() -> None:
    cats = describe_topics(TEXTS, ROWS, CLUSTERS)[0]
    # 6 counted words of cats (3 of them "cats"), 6 of dogs: 6 on average
    assert dict(cats.words)["cats"] == pytest.approx(3 / 6 * np.log(1 + 6 / 3), abs=1e-6)


def test_words_of_texts_in_no_cluster_weigh_nothing() -> None:
    alone = Clusters(np.array([0, 0, -1, 1, 1]), CLUSTERS.centres)
    texts = [*TEXTS[:2], "zebra zebra", *TEXTS[3:]]
    words = [word for topic in describe_topics(texts, ROWS, alone) for word in topic.words]
    assert all(0 < weight < 10 for _, weight in words)
    assert "zebra" not in dict(words)


def test_texts_without_words_have_topics_without_words() -> None:
    topics = describe_topics(["the", "of", "", "", ""], ROWS, CLUSTERS)
    assert [topic.words for topic in topics] == [(), ()]


def test_as_many_texts_as_rows_are_needed() -> None:
    with pytest.raises(InputError, match="4 texts, 5 rows, 5 labels"):
        describe_topics(TEXTS[:4], ROWS, CLUSTERS)
