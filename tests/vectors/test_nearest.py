from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raybert.errors import InputError
from raybert.vectors import blocks_of, exact_topk
from raybert.vectors import bounds as bounds_module
from raybert.vectors.bounds import Bounds, halves, reached
from raybert.vectors.nearest import nearest, pair_scores, prepared
from raybert.vectors.topk import MISSING


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(0, 40),
    rows=st.integers(0, 60),
    k=st.integers(1, 70),
    similarity=st.sampled_from(["cosine", "dot", "euclidean", "manhattan"]),
    whole=st.booleans(),
)
def test_nearest_is_exact_topk(
    seed: int, queries: int, rows: int, k: int, similarity: str, whole: bool
) -> None:
    rng = np.random.default_rng(seed)
    # small whole numbers have no rounding and many ties
    shapes = ((queries, 5), (rows, 5))
    drawn = [rng.integers(-2, 3, shape) if whole else rng.normal(size=shape) for shape in shapes]
    a, b = (prepared(vectors, similarity) for vectors in drawn)
    found = nearest(a, b, k, similarity=similarity)
    name = "dot" if similarity == "cosine" else similarity
    expected = exact_topk(a, blocks_of(b), k, similarity=name)
    assert (found.orders == expected.orders).all()
    assert np.allclose(found.scores, expected.scores, atol=1e-6)


def test_tiles_and_cuts_change_nothing() -> None:
    rng = np.random.default_rng(1)
    corpus = rng.normal(size=(3000, 32))
    corpus[2000:2010] = corpus[10]
    rows = prepared(corpus, "cosine")
    whole = nearest(rows[:1500], rows, 20)
    assert whole.orders[10, :11].tolist() == [10, *range(2000, 2010)]
    for cut in (1, 700, 1024, 2999):
        parts = [
            nearest(rows[:1500], rows[part], 20, orders=np.arange(3000)[part])
            for part in (slice(0, cut), slice(cut, None))
        ]
        merged = parts[0].merge(parts[1])
        assert (merged.orders == whole.orders).all()
        assert (merged.scores == whole.scores).all()
    again = nearest(rows[1100:1500], rows, 20)
    assert (again.scores == whole.scores[1100:]).all()


def test_scores_of_pairs_are_those_of_the_search() -> None:
    rng = np.random.default_rng(2)
    for similarity in ("cosine", "dot", "euclidean", "manhattan"):
        a, b = (prepared(rng.normal(size=(n, 16)), similarity) for n in (30, 50))
        found = nearest(a, b, 5, similarity=similarity)
        rows = np.repeat(np.arange(30), 5)
        known = pair_scores(a, b, rows, found.orders.reshape(-1), similarity)
        assert np.abs(known - found.scores.reshape(-1)).max() < 1e-5


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def in_halves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Bounds by float32, and by bfloat16 where this processor is fast at it."""
    wanted = bool(request.param)
    if wanted and not halves():
        pytest.skip("this processor has no AMX")
    monkeypatch.setattr(bounds_module, "halves", lambda: wanted)
    return wanted


def test_bounds_and_threads_find_what_comparing_with_all_finds(in_halves: bool) -> None:
    """Rows with a few strong directions, more than one block of cells, and copies that tie."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(6000, 48)) * np.linspace(3, 0.1, 48)
    rows[3000:3040] = rows[5]
    corpus = prepared(rows, "cosine")
    queries = prepared(rows[::2] + rng.normal(size=(3000, 48)) * 0.2, "cosine")
    fitted = Bounds.fit(queries, corpus, 20, len(corpus))
    assert (fitted.directions is None) == in_halves
    threads = torch.get_num_threads()
    found = nearest(queries, corpus, 20, bounds=fitted)
    torch.set_num_threads(3)
    again = nearest(queries, corpus, 20)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(threads)
    plain = nearest(queries, corpus, 20, bounds=Bounds())
    for other in (again, plain):
        assert (found.orders == other.orders).all()
        assert (found.scores == other.scores).all()
    expected = exact_topk(queries[:300], blocks_of(corpus), 20)
    assert np.abs(found.scores[:300] - expected.scores).max() < 1e-6
    assert (found.orders[:300] == expected.orders).mean() > 0.999
    above = nearest(queries, corpus, 20, least=0.9)
    assert (above.orders == np.where(found.scores >= 0.9, found.orders, MISSING)).all()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(1, 1, 1), (7, 9, 3), (40, 64, 33), (65, 24, 96)]),
    size=st.sampled_from([1e-3, 1.0, 300.0]),
    turned=st.booleans(),
)
def test_no_pair_that_reaches_its_floor_escapes_the_bound(
    in_halves: bool, seed: int, shape: tuple[int, int, int], size: float, turned: bool
) -> None:
    """Floors are the very scores, of either sign, so that a bound a hair too low would miss."""
    rng = np.random.default_rng(seed)
    count, others, width = shape
    a, b = (rng.normal(size=(rows, width)).astype(np.float32) * size for rows in (count, others))
    directions = np.linalg.qr(rng.normal(size=(width, width)))[0][:, : max(1, width // 3)]
    bounds = Bounds(np.ascontiguousarray(directions, np.float32) if turned else None)
    left, right = bounds.of(a), bounds.of(b)
    scores = a.astype(np.float64) @ b.T.astype(np.float64)
    floor, back = (np.quantile(scores, 0.9, axis=axis, method="nearest") for axis in (1, 0))
    floors = floor.astype(np.float32), back.astype(np.float32)
    ahead, either = np.zeros(scores.shape, bool), np.zeros(scores.shape, bool)
    ahead[reached(left, right, floors[0])] = True
    either[reached(left, right, *floors)] = True
    assert ahead[scores >= floor[:, None]].all()
    assert either[(scores >= floor[:, None]) | (scores >= back)].all()


def test_bounds_let_few_pairs_through(in_halves: bool) -> None:
    rng = np.random.default_rng(6)
    rows = prepared(rng.normal(size=(512, 384)), "cosine")
    narrow = Bounds().of(rows)
    floor = np.full(512, 0.999, np.float32)
    rows_found, columns = reached(narrow, narrow, floor)
    assert rows_found.tolist() == columns.tolist() == [*range(512)]
    assert narrow.errors.max() < (4e-3 if in_halves else 1e-4)


def test_orders_may_stand_in_any_order_and_a_search_goes_on_from_what_was_found() -> None:
    rng = np.random.default_rng(5)
    rows = prepared(rng.integers(-1, 2, (500, 6)), "dot")
    orders = rng.permutation(500)
    found = nearest(rows[:50], rows, 9, orders=orders, similarity="dot")
    at = np.argsort(orders)
    expected = nearest(rows[:50], rows[at], 9, similarity="dot")
    assert (found.orders == expected.orders).all()
    half = nearest(rows[:50], rows[:200], 9, orders=orders[:200], similarity="dot")
    done = nearest(rows[:50], rows[200:], 9, orders=orders[200:], similarity="dot", found=half)
    assert (done.orders == found.orders).all()


def test_a_corpus_smaller_than_k_leaves_places_empty() -> None:
    rows = prepared(np.eye(3), "cosine")
    found = nearest(rows, rows[:2], 4)
    assert (found.orders[:, 2:] == MISSING).all()
    assert np.isneginf(found.scores[:, 2:]).all()


def test_bad_arguments_are_refused() -> None:
    rows = prepared(np.eye(3), "cosine")
    with pytest.raises(InputError, match="top-k 0: at least 1"):
        nearest(rows, rows, 0)
    with pytest.raises(InputError, match="3 and 2 wide"):
        nearest(rows, rows[:, :2], 1)
    with pytest.raises(InputError, match="corpus: row 1 holds NaN"):
        prepared(np.array([[1.0, 2.0], [np.nan, 0]]), "cosine", "corpus")
    with pytest.raises(InputError, match=r"of shape \(3,\)"):
        prepared(np.ones(3), "cosine")
