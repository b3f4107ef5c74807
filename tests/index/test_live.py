from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from raybert.artifacts import Input, read_manifest
from raybert.errors import ArtifactError, InputError, OverloadedError
from raybert.index.live import LiveIndex, create_live
from raybert.index.locking import held

MODEL = Input(kind="model", uri="models/m", fingerprint="f1")
WIDTH = 8
TERMS = 40


def vectors(rows: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, WIDTH)).astype(np.float32)


@pytest.fixture
def live(tmp_path: Path) -> LiveIndex:
    made = create_live(str(tmp_path / "live"), model=MODEL, dimension=WIDTH)
    made.seal_rows = None
    return made


@pytest.fixture
def write(live: LiveIndex) -> Callable[..., int]:
    """Return a function that upserts ids with vectors of a seed."""

    def upsert(*ids: str, seed: int = 0, **column: Any) -> int:
        rows = [column] * len(ids)
        return live.upsert(list(ids), vectors(len(ids), seed), rows, model_fingerprint="f1")

    return upsert


def ids(live: Any, query: Any, **more: Any) -> list[str]:
    return [hit.id for hit in live.search(query, 100, **more)[0]]


def test_cosine_equals_brute_force_over_segments_and_fresh_rows(
    live: LiveIndex, write: Callable[..., int]
) -> None:
    for part in range(4):
        write(*(f"d{part}{row}" for row in range(30)), seed=part)
        if part < 3:
            live.compact()
    known = np.concatenate([vectors(30, part) for part in range(4)])
    names = [f"d{part}{row}" for part in range(4) for row in range(30)]
    query = vectors(1, 9)[0]
    cosine = known @ query / np.linalg.norm(known, axis=1) / np.linalg.norm(query)
    found = live.search(query, 25)[0]
    assert [hit.id for hit in found] == [names[at] for at in np.argsort(-cosine)[:25]]
    np.testing.assert_allclose([hit.score for hit in found], np.sort(cosine)[::-1][:25], atol=1e-6)


def test_a_score_does_not_change_when_its_row_is_sealed(
    live: LiveIndex, write: Callable[..., int]
) -> None:
    write(*(f"d{row}" for row in range(50)))
    before = live.search(vectors(5, 1), 50)
    assert live.compact()
    assert live.search(vectors(5, 1), 50) == before
    assert not live.compact()  # nothing to do


def test_documents_ride_along_and_columns_may_come_later(
    live: LiveIndex, write: Callable[..., int]
) -> None:
    write("a", text="one")
    live.compact()
    write("b", text="two", year=2001, tags=[])
    live.compact()
    write("c", year=None, tags=["x", "y"])
    taken = live.snapshot().documents.take(["c", "a", "b"])
    assert taken == [
        {"id": "c", "text": None, "year": None, "tags": ["x", "y"]},
        {"id": "a", "text": "one", "year": None, "tags": None},
        {"id": "b", "text": "two", "year": 2001, "tags": []},
    ]
    write("c", year=None, tags=["x", "y"])
    query = vectors(1)
    assert ids(live, query, filter={"year": None}) == ["a", "c"]
    assert ids(live, query, filter={"year": {"gt": 2000}}) == ["b"]
    assert ids(live, query, filter={"or": [{"tags": "x"}, {"text": "one"}]}) == ["a", "c"]
    live.compact(everything=True)
    assert live.snapshot().documents.take(["c", "a", "b"]) == taken
    assert ids(live, query, filter={"not": {"year": 2001}}) == ["a", "c"]


@pytest.mark.parametrize("kind", ["hnsw", "int8"])
def test_sealed_segments_are_of_any_kind(tmp_path: Path, kind: str) -> None:
    made = create_live(str(tmp_path / kind), model=MODEL, dimension=WIDTH, kind=kind)
    known = vectors(300)
    made.upsert([f"d{row}" for row in range(300)], known, model_fingerprint="f1")
    made.compact()
    made.delete(["d7"])
    manifest = read_manifest(next(Path(made.folder.uri).glob("segments/*/index")), kind="index")
    assert manifest.details["kind"] == kind
    assert manifest.input("model") == MODEL
    assert ids(made, known[8])[0] == "d8"
    assert "d7" not in ids(made, known[7])


def sparse_rows(rows: int, seed: int = 0) -> Any:
    draw = np.random.default_rng(seed)
    return draw.random((rows, TERMS)).astype(np.float32) * (draw.random((rows, TERMS)) < 0.1)


@pytest.fixture
def lists(tmp_path: Path) -> LiveIndex:
    return create_live(
        str(tmp_path / "lists"), model=MODEL, dimension=TERMS, metric="dot", kind="inverted"
    )


def test_sparse_rows_equal_brute_force_over_segments_and_fresh_rows(lists: LiveIndex) -> None:
    known = sparse_rows(90)
    known[7] = 0  # a row without a term is never found, and is there all the same
    names = [f"d{row:02d}" for row in range(90)]
    for start in (0, 30, 60):
        part = slice(start, start + 30)
        documents = [{"n": row} for row in range(start, start + 30)]
        given = sparse.csr_array(known[part]) if start else known[part]
        lists.upsert(names[part], given, documents, model_fingerprint="f1")
        if start < 60:
            lists.compact()
    lists.delete(["d11", "d71"])
    query = sparse_rows(1, 9)[0]
    scores = known.astype(np.float64) @ query
    scores[[11, 71]] = 0
    best = [names[row] for row in np.lexsort((names, -scores)) if scores[row] > 0]
    assert 10 < len(best) < 90
    assert ids(lists, query) == best
    assert ids(lists, query, filter={"n": {"gte": 45}}) == [name for name in best if name >= "d45"]
    assert len(lists) == 88
    found = lists.search(sparse_rows(5, 9), 12)
    lists.compact(everything=True)
    assert lists.search(sparse_rows(5, 9), 12) == found
    assert LiveIndex(lists.folder.uri).search(sparse_rows(5, 9), 12) == found
    assert lists.snapshot().documents.take(["d07"]) == [{"id": "d07", "n": 7}]
    assert lists.snapshot().reads == "sparse"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"vectors": np.ones((1, 3))}, f"sparse vectors over {TERMS} terms"),
        ({"vectors": -np.ones((1, TERMS))}, "vector 0: weight -1.0: finite weights of at least 0"),
        ({"documents": [{"terms": 1}]}, "'terms' is reserved"),
    ],
)
def test_sparse_rows_that_cannot_be_taken_are_refused(
    lists: LiveIndex, change: dict[str, Any], says: str
) -> None:
    arguments = {"ids": ["a"], "vectors": sparse_rows(1), **change}
    with pytest.raises(InputError, match=says):
        lists.upsert(**arguments, model_fingerprint="f1")


def test_bm25_is_not_live(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"kind 'bm25': a live index is one of .*inverted"):
        create_live(str(tmp_path), model=MODEL, dimension=8, metric="dot", kind="bm25")


def test_rows_are_sealed_beside_the_writing(live: LiveIndex, write: Callable[..., int]) -> None:
    live.seal_rows = 20
    for row in range(100):
        write(f"d{row % 60}", seed=row)
    live.close()
    assert len(live) == 60
    assert live.snapshot().world.segments
    assert sum(len(part) for part in live.snapshot().world.fresh) < 100
    assert ids(live, vectors(1, 99))[0] == "d39"


def test_searches_go_on_while_others_write_and_compact(
    live: LiveIndex, write: Callable[..., int]
) -> None:
    stays = [f"stays{row:02d}" for row in range(20)]
    write(*stays)
    over = threading.Event()
    faults: list[BaseException] = []

    def look() -> None:
        reader = LiveIndex(live.folder.uri, seal_rows=None)
        last = 0
        try:
            while not over.is_set():
                snapshot = reader.snapshot()
                found = ids(snapshot, vectors(1, 5))
                assert set(stays) <= set(found)
                assert len(found) == len(set(found)) == len(snapshot)
                assert snapshot.sequence >= last
                last = snapshot.sequence
        except BaseException as fault:  # noqa: BLE001  the test tells it
            faults.append(fault)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for round_ in range(12):
        write(*(f"moves{row}" for row in range(round_ + 1)), seed=round_)
        live.delete([f"moves{round_ // 2}"])
        if round_ % 2:
            live.compact(everything=round_ % 3 == 0)
    over.set()
    for reader in readers:
        reader.join()
    assert faults == []


def test_a_reader_that_looked_away_learns_of_deaths_whose_log_is_gone(
    live: LiveIndex, write: Callable[..., int]
) -> None:
    write(*(f"d{row}" for row in range(40)))
    live.compact()
    reader = LiveIndex(live.folder.uri, seal_rows=None)
    before = reader.snapshot()
    live.delete(["d3"])
    write("e")
    live.compact()
    assert len(live.snapshot().world.segments) == 2
    assert len(reader) == len(live) == 40
    assert "d3" not in ids(reader, vectors(1))
    assert "d3" in ids(before, vectors(1))  # a search under way goes on as it began


def test_deaths_read_once_do_not_kill_what_was_born_later(
    live: LiveIndex, write: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", "b")
    reader = LiveIndex(live.folder.uri, seal_rows=None)

    def killed(*_: Any) -> None:
        raise OSError("the writer is gone")

    def compaction_dies() -> None:
        with monkeypatch.context() as patched:
            patched.setattr("raybert.index.compaction.write_segment", killed)
            with pytest.raises(OSError, match="gone"):
                live.compact()

    compaction_dies()  # a second log has begun
    live.delete(["a"])  # it holds a death and no row
    compaction_dies()  # a third
    write("a")
    assert sorted(ids(reader, vectors(1))) == ["a", "b"]
    compaction_dies()
    assert sorted(ids(reader, vectors(1))) == ["a", "b"]
    live.compact()
    assert sorted(ids(reader, vectors(1))) == ["a", "b"]


def test_several_writers_take_turns(live: LiveIndex) -> None:
    others = [live, *(LiveIndex(live.folder.uri, seal_rows=None) for _ in range(2))]

    def fill(at: int) -> None:
        for row in range(8):
            name = [f"w{at}-{row}", "shared"]
            others[at].upsert(name, vectors(2, row), model_fingerprint="f1")

    threads = [threading.Thread(target=fill, args=(at,)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(each) for each in others} == {25}
    assert {each.snapshot().sequence for each in others} == {24}


def test_a_lock_that_is_held_for_long_is_said(
    live: LiveIndex, write: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raybert.index.live._WAIT_S", 0.01)
    with (
        held(Path(live.folder.absolute) / "writer.lock", 0),
        pytest.raises(OverloadedError, match=r"writer.lock: held by another process"),
    ):
        write("a")


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
@pytest.mark.parametrize("room", ["index/shards/*.faiss", "index/documents/*.arrow"])
def test_a_damaged_segment_is_named(
    live: LiveIndex, write: Callable[..., int], room: str, harm: str
) -> None:
    write(*(f"d{row}" for row in range(20)), text="some text")
    live.compact()
    (file,) = Path(live.folder.uri).glob(f"segments/*/{room}")
    damage(file, harm)
    with pytest.raises(ArtifactError, match=file.name):
        LiveIndex(live.folder.uri)


def test_damaged_rows_are_named_when_they_are_merged(
    live: LiveIndex, write: Callable[..., int]
) -> None:
    write("a", "b")
    live.compact()
    damage(next(Path(live.folder.uri).glob("segments/*/rows/shards/*.parquet")), "flip")
    write("c")
    with pytest.raises(ArtifactError, match=r"rows/shards/00000.parquet: damaged"):
        live.compact(everything=True)
    assert len(live) == 3  # nothing is lost by trying


def test_damaged_tombstones_state_and_log_are_named(
    live: LiveIndex, write: Callable[..., int]
) -> None:
    write(*(f"d{row}" for row in range(40)))
    live.compact()
    live.delete(["d3"])
    write("e")
    live.compact()
    assert len(live.snapshot().world.segments) == 2
    root = Path(live.folder.uri)
    for pattern in ("tombstones/*.parquet", "live.json"):
        (file,) = root.glob(pattern)
        whole = file.read_bytes()
        damage(file, "flip")
        with pytest.raises(ArtifactError, match=file.name):
            LiveIndex(live.folder.uri)
        file.write_bytes(whole)
    assert len(LiveIndex(live.folder.uri)) == 40


def test_a_torn_record_is_cut_off_and_counted(live: LiveIndex, write: Callable[..., int]) -> None:
    write("a")
    with live.files.log.open("ab") as log:
        log.write(b"RBL1 half a record")
    assert ids(live, vectors(1)) == ["a"]
    again = LiveIndex(live.folder.uri)
    assert again.dropped_bytes == len(b"RBL1 half a record")
    assert LiveIndex(live.folder.uri).dropped_bytes == 0
    write("b", seed=1)
    assert len(again) == 2


def test_a_full_disk_loses_nothing(
    live: LiveIndex, write: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a")

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        with pytest.raises(ArtifactError, match="No space left"):
            write("b")
    assert ids(live, vectors(1)) == ["a"]
    write("c")
    assert len(live) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ids": ["a", "a"]}, "id 'a' stands twice"),
        ({"ids": ["a", ""]}, "at least one character"),
        ({"ids": ["a", "\ud800"]}, "lone surrogate"),
        ({"ids": ["a"]}, r"2 vector\(s\) for 1 id"),
        ({"vectors": np.ones((2, 3))}, "8 wide, of the model models/m"),
        ({"vectors": np.full((2, WIDTH), np.nan)}, "vector 0 holds NaN"),
        ({"documents": [{"n": 1}]}, r"1 document\(s\) for 2 id"),
        ({"documents": [{"n": 1}, {"n": "b"}]}, "'n': its values are of several types"),
        ({"documents": [{"vector": 1}] * 2}, "'vector' is reserved"),
        ({"documents": [{"n": 2**70}] * 2}, "'n': its values are of several types"),
        ({"documents": [{f"c{at}": 1 for at in range(300)}] * 2}, "more than 256 columns"),
        ({"documents": [{"year": "x"}] * 2}, "'year' is int64 in this index; given is large_str"),
        ({"documents": [{"year": 1.5}] * 2}, "'year' is int64 in this index; given is double"),
    ],
)
def test_what_cannot_be_taken_is_refused_whole(
    live: LiveIndex, write: Callable[..., int], change: dict[str, Any], says: str
) -> None:
    write("known", year=2000)
    arguments = {"ids": ["a", "b"], "vectors": vectors(2), "documents": None, **change}
    with pytest.raises(InputError, match=says):
        live.upsert(**arguments, model_fingerprint="f1")
    assert len(live) == 1


def test_vectors_of_another_model_are_refused(live: LiveIndex) -> None:
    with pytest.raises(ArtifactError, match=r"models/m \(f1\); those given are of f2"):
        live.upsert(["a"], vectors(1), model_fingerprint="f2")


def test_bad_questions_are_refused(live: LiveIndex, write: Callable[..., int]) -> None:
    write("a", year=1)
    for query, more, says in (
        (np.ones(3), {}, "8 wide"),
        (np.full(WIDTH, np.inf), {}, "NaN or infinite"),
        (np.ones(WIDTH), {"filter": {"month": 1}}, "no column 'month'"),
    ):
        with pytest.raises(InputError, match=says):
            live.search(query, 5, **more)
    with pytest.raises(InputError, match="at least 1"):
        live.search(np.ones(WIDTH), 0)


def test_a_live_index_is_made_once_and_is_local(live: LiveIndex) -> None:
    with pytest.raises(ArtifactError, match="holds a live index already"):
        create_live(live.folder.uri, model=MODEL, dimension=WIDTH)
    with pytest.raises(ArtifactError, match="needs a local folder"):
        create_live("memory://somewhere", model=MODEL, dimension=WIDTH)
    with pytest.raises(ArtifactError, match=r"no live index \(there is no live.json\)"):
        LiveIndex(f"{live.folder.uri}/elsewhere")


def damage(file: Path, harm: str) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(data if harm == "flip" else data[:-9])
