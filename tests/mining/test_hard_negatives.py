from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util import mine_hard_negatives as oracle

from raybert.errors import InputError, SettingsError
from raybert.mining import (
    NegativeRules,
    Positives,
    Texts,
    mine_hard_negatives,
    negatives_table,
    text_teacher,
)

GRID: list[dict[str, Any]] = [
    {},
    {"num_negatives": 1},
    {"num_negatives": 7},
    {"range_min": 4},
    {"range_min": 3, "range_max": 40},
    {"range_max": 8, "num_negatives": 6},
    {"max_score": 0.5},
    {"max_score": 0.35, "num_negatives": 5},
    {"min_score": 0.4},
    {"min_score": 0.3, "max_score": 0.55},
    {"absolute_margin": 0.0},
    {"absolute_margin": 0.1},
    {"absolute_margin": 0.25, "range_min": 2},
    {"relative_margin": 0.05},
    {"relative_margin": 0.2, "num_negatives": 10},
    {"relative_margin": 0.05, "absolute_margin": 0.05},
    {"relative_margin": 0.1, "max_score": 0.5, "min_score": 0.2},
    {"relative_margin": 0.05, "range_min": 5, "range_max": 25, "num_negatives": 4},
    {"include_positives": True, "num_negatives": 5, "output_format": "n-tuple"},
    {"include_positives": True, "max_score": 0.6, "output_format": "n-tuple"},
    {"num_negatives": 280, "range_max": 320, "output_format": "n-tuple"},
    {"num_negatives": 60, "relative_margin": 0.05},
    {"similarity": "dot", "relative_margin": 0.05},
    {"similarity": "euclidean", "relative_margin": 0.05},
    {"similarity": "euclidean", "absolute_margin": 0.1, "max_score": -0.9},
]
FORMATS = ["triplet", "n-tuple", "labeled-pair", "labeled-list"]


def pairs_of(real: Any) -> list[tuple[int, int]]:
    """Title and text, of which forty titles have a second text, and some pairs stand twice."""
    own = [(row, row) for row in range(len(real.titles))]
    return own + [(row, row + 1) for row in range(40)] + own[:5]


def ours(real: Any, pairs: Sequence[tuple[int, int]], **given: Any) -> Any:
    output_format = given.pop("output_format", "triplet")
    output_scores = given.pop("output_scores", False)
    similarity = given.pop("similarity", "cosine")
    teacher = given.pop("teacher", None)
    queries, rows = np.array(pairs).T
    positives = Positives.of(queries, rows, len(real.titles))
    queries_ND, corpus_ND = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for vectors in (real.title_vectors, real.text_vectors)
    )
    mined = mine_hard_negatives(
        queries_ND,
        corpus_ND,
        positives,
        NegativeRules(**given),
        similarity=similarity,
        teacher=teacher,
    )
    numbers = [str(row) for row in range(len(real.texts))]
    return negatives_table(
        mined,
        positives,
        Texts(numbers, real.titles),
        Texts(numbers, real.texts),
        output_format,
        output_scores=output_scores,
    )


def theirs(real: Any, pairs: Sequence[tuple[int, int]], **given: Any) -> Dataset:
    model = real.model(given.pop("similarity", "cosine"))
    dataset = Dataset.from_dict(
        {
            "anchor": [real.titles[query] for query, _ in pairs],
            "positive": [real.texts[row] for _, row in pairs],
        }
    )
    return oracle(dataset, model, corpus=real.texts, verbose=False, **given)


def same(table: Any, expected: Dataset) -> None:
    """Compare column by column in order: scores to 1e-5, texts exactly unless scores tie."""
    found = table.to_pydict()
    if "documents" in found or "document" in found:
        found["positive"] = found.get("documents") or found["document"]
    assert len(expected) == table.num_rows
    for name in expected.column_names:
        if name in ("scores", "score"):
            for mine, other in zip(found[name], expected[name], strict=True):
                assert np.abs(np.array(mine) - np.array(other)).max() < 1e-5
        elif name.startswith("negative") and "scores" in found:
            place = int(name.partition("_")[2] or 1)
            swapped = [
                row
                for row, (mine, other) in enumerate(zip(found[name], expected[name], strict=True))
                if mine != other and not tied(found["scores"], row, place)
            ]
            assert swapped == [], name
        else:
            assert found[name] == list(expected[name]), name


def tied(scores: list[list[float]], row: int, place: int) -> bool:
    """Say whether the score at a place is, but for rounding, that of the one beside it."""
    own = scores[row][place]
    beside = [scores[at][place] for at in (row - 1, row + 1) if 0 <= at < len(scores)]
    beside += [scores[row][at] for at in (place - 1, place + 1) if 0 < at < len(scores[row])]
    return any(abs(own - other) < 1e-6 for other in beside)


@pytest.mark.parametrize("given", GRID, ids=str)
def test_negatives_are_the_oracles(real: Any, given: dict[str, Any]) -> None:
    given = {"output_scores": True, **given}
    expected = theirs(real, pairs_of(real), **given)
    assert len(expected) > 0
    same(ours(real, pairs_of(real), **given), expected)


@pytest.mark.parametrize("output_scores", [False, True])
@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("rules", [{}, {"relative_margin": 0.3, "num_negatives": 4}])
def test_formats_are_the_oracles(
    real: Any, output_format: str, output_scores: bool, rules: dict[str, Any]
) -> None:
    given = {"output_format": output_format, "output_scores": output_scores, **rules}
    same(ours(real, pairs_of(real), **given), theirs(real, pairs_of(real), **given))


class Crossed:
    """A cross-encoder that scores by a hash of two texts, as the oracle asks it."""

    calls = 0

    def predict(self, pairs: Sequence[tuple[str, str]], **options: Any) -> Any:
        self.calls += 1
        scores = [zlib.crc32(f"{a}|{b}".encode()) / 2**32 for a, b in pairs]
        return torch.tensor(scores) if options.get("convert_to_tensor") else np.array(scores)


@pytest.mark.parametrize(
    "rules",
    [
        {"min_score": 0.4},
        {"max_score": 0.7},
        {"relative_margin": 0.1, "num_negatives": 5},
        {"absolute_margin": 0.2, "range_min": 1},
        {},
    ],
    ids=str,
)
def test_a_teacher_scores_as_the_oracles_cross_encoder(real: Any, rules: dict[str, Any]) -> None:
    expected = theirs(real, pairs_of(real), cross_encoder=Crossed(), output_scores=True, **rules)
    crossed = Crossed()
    teacher = text_teacher(crossed.predict, real.titles, real.texts)
    found = ours(real, pairs_of(real), teacher=teacher, output_scores=True, **rules)
    assert crossed.calls == (1 if rules else 0)
    same(found, expected)


VECTORS = {
    "q1": [1, 0, 0],
    "q2": [0, 0, 1],
    "p1": [0.9, 0.1, 0],
    "p1b": [0.5, 0.5, 0],
    "p2": [0, 0.2, 0.9],
    "n1": [0.8, 0.3, 0],
    "n2": [0.3, 0.8, 0],
    "n3": [0, 1, 0],
}


def mined_by_hand(**given: Any) -> list[dict[str, Any]]:
    names = ["p1", "p1b", "p2", "n1", "n2", "n3"]
    queries = np.array([VECTORS["q1"], VECTORS["q2"]], np.float32)
    corpus = np.array([VECTORS[name] for name in names], np.float32)
    positives = Positives.of(np.array([0, 0, 1]), np.array([0, 1, 2]), 2)
    shape = given.pop("output_format", "triplet")
    mined = mine_hard_negatives(queries, corpus, positives, NegativeRules(**given))
    table = negatives_table(
        mined, positives, Texts(["q1", "q2"], ["q1", "q2"]), Texts(names, names), shape
    )
    return list(table.to_pylist())


@pytest.mark.parametrize(
    ("rules", "negative"),
    [
        ({}, "n1"),
        ({"relative_margin": 0.05}, "n2"),
        ({"percent_of_positive": 95}, "n2"),
        ({"absolute_margin": 0.1}, "n2"),
        ({"range_min": 1}, "n2"),
        ({"max_score": 0.5}, "n2"),
    ],
    ids=str,
)
def test_hard_case_23(rules: dict[str, Any], negative: str) -> None:
    rows = mined_by_hand(num_negatives=1, **rules)
    assert [(row["positive"], row["negative"]) for row in rows if row["anchor"] == "q1"] == [
        ("p1", negative),
        ("p1b", negative),
    ]
    scores = {row["positive"]: row["positive_score"] for row in rows if row["anchor"] == "q1"}
    assert scores == pytest.approx({"p1": 0.9939, "p1b": 0.7071}, abs=5e-5)


def test_hard_case_23_ranks_positives_where_they_are_asked_for() -> None:
    rows = mined_by_hand(num_negatives=3, include_positives=True, output_format="n-tuple")
    first = rows[0]
    assert [first[name] for name in ("anchor", "positive", "negative_1")] == ["q1", "p1", "p1"]
    assert [first["negative_2"], first["negative_3"]] == ["n1", "p1b"]


def test_hard_case_23_anothers_positive_is_a_negative() -> None:
    rows = mined_by_hand(num_negatives=4)
    assert "p1b" in [row["negative"] for row in rows if row["anchor"] == "q2"]


def test_every_negative_says_why_it_was_kept_and_every_rule_what_it_dropped(real: Any) -> None:
    queries = np.arange(len(real.titles))
    positives = Positives.of(queries, queries, len(queries))
    rules = NegativeRules(relative_margin=0.1, max_score=0.5, min_score=0.2, num_negatives=4)
    mined = mine_hard_negatives(real.title_vectors, real.text_vectors, positives, rules)
    assert mined.candidates == len(queries) * (rules.window(1) + 1)
    assert set(mined.dropped) == {"positive", "relative_margin", "max_score", "min_score"}
    assert all(mined.dropped.values())
    numbers = [str(row) for row in queries]
    row = negatives_table(
        mined, positives, Texts(numbers, real.titles), Texts(numbers, real.texts)
    ).to_pylist()[0]
    ceiling = min(0.5, row["positive_score"] * 0.9)
    assert row["negative_score"] <= ceiling
    assert row["kept_because"].startswith(
        f"rank {row['negative_rank']}, {row['negative_score']:.4f} <= {ceiling:.4f} ("
    )
    assert real.texts[int(row["negative_id"])] == row["negative"]


def test_drawing_is_fair_and_does_not_depend_on_the_cut(real: Any) -> None:
    queries = np.arange(len(real.titles))
    positives = Positives.of(queries, queries, len(queries))

    def drawn(**more: Any) -> Any:
        given: dict[str, Any] = {"range_max": 20, "num_negatives": 5, "seed": 7, **more}
        rules = NegativeRules(sampling_strategy="random", **given)
        return mine_hard_negatives(real.title_vectors, real.text_vectors, positives, rules)

    whole = drawn()
    assert (drawn().rows == whole.rows).all()
    assert (drawn(seed=8).rows != whole.rows).mean() > 0.5
    assert (np.diff(whole.scores, axis=1) <= 0).all()
    top = mine_hard_negatives(
        real.title_vectors,
        real.text_vectors,
        positives,
        NegativeRules(range_max=20, num_negatives=20),
    )
    places = [
        int(np.flatnonzero(top.rows[query] == row)[0])
        for query in queries
        for row in whole.rows[query]
    ]
    counts = np.bincount(places, minlength=20)
    expected = len(queries) * 5 / 20
    assert (((counts - expected) ** 2) / expected).sum() < 60, "chi-squared, 19 degrees"
    few = drawn(max_score=0.2, num_negatives=20, range_max=60)
    assert ((few.rows >= 0) == np.isfinite(few.scores)).all()


def test_a_seeded_draw_of_the_oracle_takes_from_the_same_candidates(real: Any) -> None:
    random.seed(0)
    given = {"range_max": 9, "range_min": 2, "num_negatives": 7}
    expected = theirs(real, pairs_of(real), sampling_strategy="random", **given)
    same(ours(real, pairs_of(real), sampling_strategy="random", **given), expected)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 12),
    rows=st.integers(1, 15),
    wanted=st.integers(1, 6),
    margin=st.sampled_from([None, 0.0, 0.2, 0.7]),
)
def test_laws_hold_for_any_vectors(
    seed: int, queries: int, rows: int, wanted: int, margin: float | None
) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, rows, (queries, 2))
    of = np.repeat(np.arange(queries), 2)
    positives = Positives.of(of, pairs.reshape(-1), queries)
    rules = NegativeRules(num_negatives=wanted, relative_margin=margin)
    mined = mine_hard_negatives(
        rng.normal(size=(queries, 3)), rng.normal(size=(rows, 3)), positives, rules
    )
    assert mined.rows.shape == (queries, wanted)
    for query in range(queries):
        kept = mined.rows[query][mined.rows[query] >= 0]
        assert len(set(kept.tolist())) == len(kept)
        assert not set(kept.tolist()) & set(pairs[query].tolist())
        if margin is None:
            assert len(kept) == min(wanted, rows - len(set(pairs[query].tolist())))
        else:
            own = mined.positive_scores[positives.queries == query].min()
            assert (mined.scores[query][: len(kept)] <= own - abs(own) * margin + 1e-6).all()


def test_ranks_without_room_are_refused() -> None:
    with pytest.raises(SettingsError, match="range_min 4 to range_max 5 leaves 1 candidates"):
        mined_by_hand(num_negatives=3, range_min=4, range_max=5)


@pytest.mark.parametrize(
    ("queries", "corpus", "says"),
    [
        (np.ones((1, 3)), np.ones((4, 2)), "vectors 3 and 2 wide"),
        (np.full((1, 2), np.nan), np.ones((4, 2)), "query vectors: row 0 holds NaN"),
        (np.ones((1, 2)), np.full((4, 2), np.inf), "corpus vectors: row 0 holds NaN"),
        (np.ones((2, 2)), np.ones((4, 2)), "2 query vectors, but positives of 1"),
        (np.ones(2), np.ones((4, 2)), "2 query vectors, but positives of 1"),
    ],
    ids=["width", "nan", "inf", "count", "shape"],
)
def test_bad_vectors_are_refused(queries: Any, corpus: Any, says: str) -> None:
    positives = Positives.of(np.array([0]), np.array([0]), 1)
    with pytest.raises(InputError, match=says):
        mine_hard_negatives(queries, corpus, positives)


def test_a_query_without_a_positive_is_refused() -> None:
    with pytest.raises(InputError, match="query 1 has no positive"):
        Positives.of(np.array([0, 2]), np.array([0, 1]), 3)
    with pytest.raises(InputError, match="no pairs"):
        Positives.of(np.array([], np.int64), np.array([], np.int64), 0)


def test_a_teacher_that_answers_nonsense_is_refused(real: Any) -> None:
    def teacher(queries: Any, rows: Any) -> Any:
        return np.full(len(queries), np.nan)

    with pytest.raises(InputError, match="the teacher must give one number a pair"):
        ours(real, pairs_of(real), teacher=teacher, max_score=0.5)


def test_zero_vectors_have_no_neighbour_and_do_no_harm(real: Any) -> None:
    queries = np.arange(3)
    positives = Positives.of(queries, queries, 3)
    corpus = real.text_vectors.copy()
    corpus[5] = 0
    mined = mine_hard_negatives(real.title_vectors[:3], corpus, positives)
    assert np.isfinite(mined.scores).all()
    assert 5 not in mined.rows


def test_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="output_format 'quads': allowed are triplet, n-tuple"):
        mined_by_hand(output_format="quads")


def test_a_teacher_and_a_share_of_the_positive_take_planted_answers_out(real: Any) -> None:
    """Each text has a second version in the corpus that nobody labelled; the teacher is noisy."""
    count = len(real.texts)
    rng = np.random.default_rng(0)
    second = real.text_vectors + rng.normal(size=real.text_vectors.shape) * 0.01
    corpus = np.concatenate([real.text_vectors, second]).astype(np.float32)
    queries = np.arange(count)
    positives = Positives.of(queries, queries, count)

    def teacher(asked: Any, rows: Any) -> Any:
        lots = [zlib.crc32(f"{q} {r}".encode()) / 2**32 for q, r in zip(asked, rows, strict=True)]
        return (rows % count == asked) + 0.3 * (np.array(lots) - 0.5)

    def mined(rules: NegativeRules, judge: Any = None) -> Any:
        found = mine_hard_negatives(real.title_vectors, corpus, positives, rules, teacher=judge)
        return [set(row[row >= 0].tolist()) for row in found.rows]

    before = mined(NegativeRules(num_negatives=5))
    after = mined(NegativeRules(num_negatives=2 * count, percent_of_positive=95), teacher)
    planted = [query for query in queries if query + count in before[query]]
    assert len(planted) > 0.7 * count, "without a rule the planted answers are mined"
    removed = [query for query in planted if query + count not in after[query]]
    assert len(removed) >= 0.5 * len(planted)
    true = [(query, row) for query in queries for row in before[query] if row % count != query]
    kept = [row in after[query] for query, row in true]
    assert sum(kept) >= 0.8 * len(kept)
