from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybert.errors import InputError
from raybert.index import KINDS, build_index, open_index
from raybert.index.filters import passing
from raybert.vectors import blocks_of, exact_topk

WriteEmbeddings = Callable[..., str]
ROWS = [
    {"id": f"r{at}", "year": year, "lang": lang, "tags": tags, "day": dt.date(2020, 1, 1 + at)}
    for at, (year, lang, tags) in enumerate(
        [
            (1999, "de", ["a", "b"]),
            (2005, "fr", []),
            (None, "de", ["b"]),
            (2010, None, None),
            (2005, "it", ["c", None]),
        ]
    )
]
TABLE = pa.Table.from_pylist(ROWS)


def found(condition: dict[str, Any]) -> list[int]:
    return [int(row) for row in np.flatnonzero(passing(condition, TABLE))]


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ({"lang": "de"}, [0, 2]),
        ({"lang": "de", "year": 1999}, [0]),
        ({"year": {"gte": 2005, "lt": 2010}}, [1, 4]),
        ({"year": {"gt": 2004.5}}, [1, 3, 4]),
        ({"year": {"ne": 2005}}, [0, 2, 3]),
        ({"year": None}, [2]),
        ({"lang": {"ne": None}}, [0, 1, 2, 4]),
        ({"lang": {"in": ["fr", "it", None]}}, [1, 4]),
        ({"lang": {"in": []}}, []),
        ({"tags": "b"}, [0, 2]),
        ({"tags": {"in": ["a", "c"]}}, [0, 4]),
        ({"or": [{"lang": "fr"}, {"and": [{"lang": "de"}, {"not": {"year": 1999}}]}]}, [1, 2]),
        ({"day": {"gte": "2020-01-04"}}, [3, 4]),
        ({"id": {"in": ["r3", "r9"]}}, [3]),
    ],
)
def test_conditions_pass_the_rows_they_mean(condition: dict[str, Any], rows: list[int]) -> None:
    assert found(condition) == rows
    assert found({"not": condition}) == [row for row in range(5) if row not in rows]
    chunked = pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2)])
    assert list(np.flatnonzero(passing(condition, chunked))) == rows


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ({"jahr": 1}, "no column 'jahr'; there are id, year, lang"),
        ({"year": {"above": 3}}, "operator 'above'; allowed are eq, gt, gte, lt, lte, ne, in"),
        ({"year": "then"}, "column 'year' holds int64; 'eq' cannot compare it with 'then'"),
        ({"year": {"in": ["x"]}}, "holds int64; 'in' cannot compare"),
        ({"day": {"lt": "soon"}}, "'lt' cannot compare it with 'soon'"),
        ({"lang": {"in": "de"}}, "'in' takes a list"),
        ({"year": {}}, "is asked nothing"),
        ({"or": {"lang": "de"}}, "'or' takes a list"),
        ({}, "an object of conditions"),
        ({"not": [1]}, "an object of conditions"),
    ],
)
def test_faults_are_told_in_one_line(condition: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        found(condition)
    assert "\n" not in str(caught.value)


def test_a_filter_cannot_be_nested_without_end() -> None:
    condition: dict[str, Any] = {"lang": "de"}
    for _ in range(40):
        condition = {"not": condition}
    with pytest.raises(InputError, match="nested deeper than 32"):
        found(condition)


@given(
    cells=st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=1, max_size=30),
    low=st.integers(-4, 4),
    high=st.integers(-4, 4),
    choice=st.lists(st.integers(-3, 3), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_filters_are_what_python_says(
    cells: list[int | None], low: int, high: int, choice: list[int]
) -> None:
    table = pa.table({"n": pa.array(cells, pa.int64())})
    condition = {"or": [{"n": {"gte": low, "lte": high}}, {"not": {"n": {"in": choice}}}]}
    expected = [n is None or low <= n <= high or n not in choice for n in cells]
    assert passing(condition, table).tolist() == expected


@pytest.mark.parametrize("share", [0.003, 0.3])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].reads == "dense"])
def test_recall_is_kept_however_few_rows_pass(
    write_embeddings: WriteEmbeddings, tmp_path: Path, kind: str, share: float
) -> None:
    draw = np.random.default_rng(3)
    centres = draw.standard_normal((30, 32))
    both = (centres[draw.integers(0, 30, 2050)] + draw.standard_normal((2050, 32))).astype("f4")
    corpus, queries = both[:2000], both[2000:]
    passes = draw.random(2000) < share
    table = pa.table({"id": [f"d{row:06d}" for row in range(2000)], "ok": passes})
    out = str(tmp_path / "index")
    build_index(write_embeddings(corpus), out, kind=kind, shards=2, documents=[table], probes=50)
    index = open_index(out)
    allowed = np.flatnonzero(passes)
    exact = exact_topk(queries, blocks_of(corpus[allowed]), 10)
    shares = []
    for rows, hits in zip(exact.orders, index.search(queries, 10, {"ok": True}), strict=True):
        wanted = {f"d{allowed[row]:06d}" for row in rows if row >= 0}
        ids = {hit.id for hit in hits}
        assert ids <= {f"d{row:06d}" for row in allowed}
        assert len(ids) == len(wanted)
        shares.append(len(ids & wanted) / len(wanted))
    assert np.mean(shares) >= (1.0 if kind == "flat" else 0.95)
    assert index.search(queries[:2], 3, {"id": "none"}) == [[], []]
    with pytest.raises(InputError, match="no column 'year'"):
        index.search(queries, 3, {"year": 2})
