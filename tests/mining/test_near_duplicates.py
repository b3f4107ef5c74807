from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raybert.errors import InputError
from raybert.mining import group_duplicates, mine_paraphrases
from raybert.vectors import TopPairs


def linked(*pairs: tuple[int, int]) -> TopPairs:
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    return TopPairs(np.ones(len(left), np.float32), left, right)


def test_links_through_others_make_one_group() -> None:
    groups = group_duplicates(linked((4, 5), (1, 6), (0, 5)), 8)
    assert groups.group.tolist() == [0, 1, -1, -1, 0, 0, 1, -1]
    assert groups.kept.tolist() == [0, 1]
    assert groups.removed.tolist() == [4, 5, 6]
    assert groups.members() == [[0, 4, 5], [1, 6]]


def test_the_row_to_keep_is_told_by_a_rule() -> None:
    pairs = linked((0, 1), (1, 2))
    assert group_duplicates(pairs, 3, keep="longest", lengths=[3, 9, 9]).members() == [[1, 0, 2]]
    assert group_duplicates(pairs, 3, keep="best", scores=[0.1, 0.2, 0.3]).kept.tolist() == [2]
    with pytest.raises(InputError, match="keep 'shortest': allowed are first, longest, best"):
        group_duplicates(pairs, 3, keep="shortest")
    assert group_duplicates(pairs, 3, keep="best").kept.tolist() == [1], "nearest to the others"
    with pytest.raises(InputError, match="keep 'longest' needs longest of 3 rows"):
        group_duplicates(pairs, 3, keep="longest")


def test_no_pairs_make_no_groups() -> None:
    groups = group_duplicates(linked(), 3)
    assert groups.members() == []
    assert groups.removed.tolist() == []


def test_planted_duplicates_are_found(real: Any) -> None:
    rng = np.random.default_rng(3)
    planted = rng.choice(len(real.texts), 60, replace=False)
    noise = rng.normal(size=(60, real.text_vectors.shape[1])) * 0.003
    vectors = np.concatenate([real.text_vectors, real.text_vectors[planted] + noise])
    groups = group_duplicates(mine_paraphrases(vectors, threshold=0.97), len(vectors))
    together = groups.group[planted] == groups.group[len(real.texts) :]
    assert (together & (groups.group[planted] >= 0)).mean() >= 0.99
    assert len(groups.removed) < 80
