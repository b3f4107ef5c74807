from __future__ import annotations

import math

import ir_measures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG

from raybert.errors import InputError
from raybert.evaluation import METRICS, Cutoffs, judge, judge_rankings, measure, ranked, trec_lines
from raybert.records import Hit, Ranking

# hard case 25: d1 and d2 tie above d4 above d3; d9 is relevant and not in the ranking
RANKED = ["d1", "d2", "d4", "d3"]
RELEVANT = {"d2": 1, "d4": 1, "d9": 1}
THEIRS = {
    "accuracy": lambda k: Success @ k,
    "precision": lambda k: P @ k,
    "recall": lambda k: R @ k,
    "ndcg": lambda k: nDCG @ k,
    "mrr": lambda k: RR @ k,
    "map": lambda k: AP @ k,
}
scores = st.dictionaries(
    st.integers(0, 29).map(lambda n: f"d{n:02d}"),
    st.sampled_from([0.0, 0.5, 0.5000001, 1.0, -2.0]),  # few values: ties everywhere
    min_size=1,
    max_size=25,
)
grades = st.dictionaries(
    st.integers(0, 29).map(lambda n: f"d{n:02d}"), st.integers(0, 3), min_size=1, max_size=9
).filter(lambda found: any(found.values()))
queries = st.dictionaries(st.sampled_from("abcdef"), st.tuples(scores, grades), min_size=1)


def test_published_numbers() -> None:
    judged = judge(RANKED, RELEVANT)
    assert METRICS["accuracy"](judged, 1) == 0
    assert METRICS["precision"](judged, 3) == pytest.approx(2 / 3)
    assert METRICS["recall"](judged, 3) == pytest.approx(2 / 3)
    assert METRICS["ndcg"](judged, 3) == pytest.approx(0.5307213, abs=1e-7)
    assert METRICS["mrr"](judged, 10) == 0.5
    assert METRICS["map"](judged, 2) == 0.25
    assert METRICS["map"](judged, 100) == pytest.approx(0.3888889, abs=1e-7)


@given(found=queries)
@settings(max_examples=150, deadline=None)
def test_equals_ir_measures_on_rankings_with_ties(
    found: dict[str, tuple[dict[str, float], dict[str, int]]],
) -> None:
    rankings = [Ranking(query, ranked(scored)) for query, (scored, _) in found.items()]
    qrels = {query: graded for query, (_, graded) in found.items()}
    judged = list(judge_rankings(rankings, qrels).values())
    cuts = (1, 3, 10)
    # trec_eval divides by all relevant documents, so k here is never below their number
    ours = measure(judged, Cutoffs(cuts, cuts, cuts, cuts, cuts, (10,)))
    run = list(ir_measures.read_trec_run("\n".join(trec_lines(rankings, "t")) + "\n"))
    judgements = [
        ir_measures.Qrel(query, document, grade)
        for query, graded in qrels.items()
        for document, grade in graded.items()
    ]
    measures = {key: THEIRS[key.split("@")[0]](int(key.split("@")[1])) for key in ours}
    theirs = ir_measures.calc_aggregate(list(measures.values()), judgements, run)
    assert ours == pytest.approx({key: theirs[m] for key, m in measures.items()}, abs=1e-6)


def test_all_zero_scores_do_not_count_as_hits() -> None:
    corpus = {f"d{n:03d}": 0.0 for n in range(100)}
    hits = ranked(corpus)
    assert [hit.id for hit in hits] == sorted(corpus)
    judged = judge([hit.id for hit in hits], {"d050": 1})
    assert METRICS["accuracy"](judged, 10) == 0
    assert METRICS["mrr"](judged, 10) == 0
    assert METRICS["mrr"](judged, 100) == pytest.approx(1 / 51)


def test_equal_scores_are_ranked_by_id() -> None:
    assert [hit.id for hit in ranked({"b": 1.0, "c": 2.0, "a": 1.0})] == ["c", "a", "b"]
    assert ranked({"b": 1.0, "a": 1.0}, top_k=1) == (Hit("a", 1.0),)


def test_graded_relevance_counts_in_ndcg_alone() -> None:
    graded, binary = judge(["a", "b"], {"a": 1, "b": 3}), judge(["a", "b"], {"a": 1, "b": 1})
    assert METRICS["ndcg"](binary, 10) == 1
    assert METRICS["ndcg"](graded, 10) == pytest.approx(
        (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    )
    for name in ("accuracy", "precision", "recall", "mrr", "map"):
        assert METRICS[name](graded, 2) == METRICS[name](binary, 2)


def test_unranked_query_counts_as_missed_and_unjudged_one_not_at_all() -> None:
    rankings = [Ranking("q1", (Hit("a", 1.0),)), Ranking("q3", (Hit("a", 1.0),))]
    qrels = {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"a": 0}}
    judged = judge_rankings(rankings, qrels)
    assert list(judged) == ["q1", "q2"]
    assert measure(list(judged.values()))["mrr@10"] == 0.5


def test_trec_lines_keep_the_order_of_ties_in_float32() -> None:
    hits = tuple(Hit(f"a {n}", 0.25 if n < 9 else 0.1) for n in range(12))
    lines = [line.split() for line in trec_lines([Ranking("q", hits)], "tag")]
    assert [line[2] for line in lines] == [f"a%20{n}" for n in range(12)]
    values = [float(line[4]) for line in lines]
    assert values == sorted(set(values), reverse=True)
    assert values == pytest.approx([hit.score for hit in hits], abs=1e-6)


def test_faults_are_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        ranked({"a": math.nan})
    with pytest.raises(InputError, match="'a' is ranked twice"):
        judge(["a", "b", "a"], {"a": 1})
    with pytest.raises(InputError, match="without any relevant"):
        judge(["a"], {"a": 0})
    with pytest.raises(InputError, match="nothing to measure"):
        measure([])
