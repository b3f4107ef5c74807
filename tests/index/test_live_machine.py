"""A live index against a dictionary and brute force: any order of changes, searches and deaths.

`tests/benchmarks/drill_live_index.py` runs the same machine for thousands of steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raybert.artifacts import Input
from raybert.index.live import LiveIndex, create_live

WIDTH = 3
SEED = 20261123
IDS = st.sampled_from([f"d{number}" for number in range(12)] + ["é", "a/b"])
NUMBERS = st.integers(-2, 2)
ROW = st.tuples(st.lists(NUMBERS, min_size=WIDTH, max_size=WIDTH), st.integers(0, 3))
ROWS = st.dictionaries(IDS, ROW, min_size=1, max_size=6)
FILTERS = st.sampled_from(
    [None, {"n": 1}, {"n": {"in": [0, 3]}}, {"not": {"n": {"gte": 2}}}, {"even": True}]
)
Rows = dict[str, tuple[list[int], int]]


class Writer:
    """The script `live_writer.py`, started once."""

    process: subprocess.Popen[str] | None = None

    @classmethod
    def order(cls, **order: Any) -> list[dict[str, Any]]:
        """Have changes made by a process that dies; return what it said, the last how it ended."""
        if cls.process is None:
            here = Path(__file__)
            environment = {**os.environ, "PYTHONPATH": str(here.parents[2] / "platform")}
            cls.process = subprocess.Popen(
                [sys.executable, str(here.with_name("live_writer.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**environment, "OMP_NUM_THREADS": "1"},
            )
        assert cls.process.stdin is not None
        assert cls.process.stdout is not None
        cls.process.stdin.write(json.dumps(order) + "\n")
        cls.process.stdin.flush()
        said: list[dict[str, Any]] = []
        while not said or "killed" not in said[-1]:
            said.append(json.loads(cls.process.stdout.readline()))
        return said

    @classmethod
    def stop(cls) -> None:
        if cls.process is not None:
            cls.process.kill()
            cls.process.communicate()
            cls.process = None


def documents(rows: Rows) -> list[dict[str, Any]]:
    return [{"n": number, "even": number % 2 == 0} for _, number in rows.values()]


def passes(condition: Any, number: int) -> bool:
    tests = {
        "null": True,
        json.dumps({"n": 1}): number == 1,
        json.dumps({"n": {"in": [0, 3]}}): number in (0, 3),
        json.dumps({"not": {"n": {"gte": 2}}}): number < 2,
        json.dumps({"even": True}): number % 2 == 0,
    }
    return tests[json.dumps(condition)]


class LiveMachine(RuleBasedStateMachine):
    """The same changes to a live index and to a dictionary; every search must agree."""

    rules_run = 0
    compared = 0
    deaths = 0
    torn = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="raybert-live-")
        self.known: Rows = {}

    @initialize(metric=st.sampled_from(["dot", "euclidean", "manhattan", "sparse"]))
    def begin(self, metric: str) -> None:
        self.metric = metric
        kind, ranked_by = ("inverted", "dot") if metric == "sparse" else ("flat", metric)
        model = Input(kind="model", uri="models/m", fingerprint="f1")
        uri = f"{self.folder.name}/live"
        self.live = create_live(uri, model=model, dimension=WIDTH, metric=ranked_by, kind=kind)
        self.live.seal_rows = None
        self.reader = LiveIndex(uri, seal_rows=None)

    @invariant()
    def counted(self) -> None:
        type(self).rules_run += 1

    @rule(rows=ROWS)
    def upsert(self, rows: Rows) -> None:
        vectors = np.array([self.taken(each) for each, _ in rows.values()], dtype=np.float32)
        before = self.live.snapshot().sequence
        found = self.live.upsert(list(rows), vectors, documents(rows), model_fingerprint="f1")
        assert found == before + 1
        self.known |= rows

    @rule(ids=st.lists(IDS, max_size=4))
    def delete(self, ids: list[str]) -> None:
        there = [each for each in dict.fromkeys(ids) if each in self.known]
        assert self.live.delete(ids) == there
        for identifier in there:
            del self.known[identifier]

    @rule(everything=st.booleans())
    def compact(self, everything: bool) -> None:
        before = self.live.snapshot()
        self.live.compact(everything=everything)
        if everything and self.live.snapshot() is not before:
            assert len(self.live.snapshot().world.segments) <= 1
        self.agree(before, [0, 1, 2], 5, None)  # a search under way goes on as it began

    @rule()
    def reopen(self) -> None:
        self.live = LiveIndex(self.live.folder.uri, seal_rows=None)
        assert self.live.dropped_bytes == 0

    @rule(
        query=st.lists(NUMBERS, min_size=WIDTH, max_size=WIDTH),
        top_k=st.integers(1, 16),
        condition=FILTERS,
        reader=st.booleans(),
    )
    def search(self, query: list[int], top_k: int, condition: Any, reader: bool) -> None:
        live = self.reader if reader else self.live
        if condition is not None and "n" not in live.snapshot().documents.columns:
            return  # nobody named that column yet
        self.agree(live.snapshot(), query, top_k, condition)

    @precondition(lambda self: hasattr(self, "live"))
    @rule(
        changes=st.lists(st.one_of(ROWS, st.lists(IDS, max_size=3), st.booleans()), min_size=1),
        dies_at=st.integers(1, 30),
    )
    def die(self, changes: list[Any], dies_at: int) -> None:
        orders = [self.order(change) for change in changes[:4]]
        said = Writer.order(root=self.live.folder.uri, changes=orders, dies_at=dies_at)
        assert not [each for each in said if "fault" in each], said
        done = sum("done" in each for each in said)
        for change in changes[:done]:
            self.known = self.changed(change)
        kind = type(self)
        kind.deaths += said[-1]["killed"]
        if said[-1]["killed"] and done < len(orders):
            in_flight = self.changed(changes[done])
            if set(self.standing(self.reader)) != set(self.known) or self.payload() != {
                name: number for name, (_, number) in self.known.items()
            }:
                self.known = in_flight  # it was on disk, though nobody was told
        self.live = LiveIndex(self.live.folder.uri, seal_rows=None)
        kind.torn += self.live.dropped_bytes > 0
        self.agree(self.live.snapshot(), [1, 0, -1], 20, None)

    def teardown(self) -> None:
        if hasattr(self, "live"):
            for live in (self.live, self.reader):
                for query in ([0, 0, 0], [1, -2, 1]):
                    self.agree(live.snapshot(), query, 20, None)
        self.folder.cleanup()

    def order(self, change: Any) -> dict[str, Any]:
        if isinstance(change, dict):
            vectors = [self.taken(vector) for vector, _ in change.values()]
            rows = {"ids": list(change), "vectors": vectors, "documents": documents(change)}
            return {"do": "upsert", **rows}
        if isinstance(change, list):
            return {"do": "delete", "ids": change}
        return {"do": "compact", "everything": change}

    def changed(self, change: Any) -> Rows:
        if isinstance(change, dict):
            return self.known | change
        gone = change if isinstance(change, list) else []
        return {name: row for name, row in self.known.items() if name not in gone}

    def taken(self, vector: list[int]) -> list[int]:
        """Return what is written of a drawn vector: of a sparse one weights above 0."""
        return [abs(each) + 1 for each in vector] if self.metric == "sparse" else vector

    def standing(self, live: LiveIndex) -> list[str]:
        return [hit.id for hit in live.search(np.ones(WIDTH), 50)[0]]

    def payload(self) -> dict[str, int]:
        ids = self.standing(self.reader)
        taken = self.reader.snapshot().documents.take(ids)
        return {row["id"]: row["n"] for row in taken}

    def agree(self, snapshot: Any, query: list[int], top_k: int, condition: Any) -> None:
        type(self).compared += 1
        asked = np.array(query, dtype=np.float64)
        if self.metric == "sparse":
            asked = np.maximum(asked, 0)  # a term of weight 0 is not asked for
        scores = {
            name: self.score(asked, np.array(self.taken(vector), dtype=np.float64))
            for name, (vector, number) in self.known.items()
            if passes(condition, number)
        }
        if self.metric == "sparse":
            scores = {name: score for name, score in scores.items() if score > 0}
        expected = sorted(scores, key=lambda name: (-scores[name], name))[:top_k]
        (found,) = snapshot.search(asked, top_k, condition)
        assert [hit.id for hit in found] == expected
        assert [hit.score for hit in found] == [
            float(np.float32(scores[each])) for each in expected
        ]
        assert len(snapshot) == len(self.known)
        assert [row["n"] for row in snapshot.documents.take(expected)] == [
            self.known[name][1] for name in expected
        ]

    def score(self, query: Any, vector: Any) -> float:
        if self.metric in ("dot", "sparse"):
            return float(query @ vector)
        gap = query - vector
        return -float(np.sqrt(gap @ gap) if self.metric == "euclidean" else np.abs(gap).sum())


TestLiveMachine = seed(SEED)(LiveMachine).TestCase
TestLiveMachine.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def teardown_module() -> None:
    Writer.stop()
