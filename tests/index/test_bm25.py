from __future__ import annotations

from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pyarrow as pa
import pytest

from raybert.artifacts import Input
from raybert.errors import ArtifactError, InputError
from raybert.index import build_text_index, open_index

WORDS = [f"word{number}" for number in range(14)]
CORPUS = Input(kind="corpus", uri="docs.jsonl", fingerprint="c1")


def documents(rows: int = 400) -> list[pa.Table]:
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, draw.integers(3, 30))) for _ in range(rows)]
    ids = [f"d{row:04d}" for row in range(rows)]
    table = pa.table({"id": ids, "text": texts, "even": [row % 2 == 0 for row in range(rows)]})
    return [table.slice(0, 150), table.slice(150)]


def reference(queries: list[str], k: int) -> list[list[tuple[str, Any]]]:
    tables = documents()
    texts = [text for table in tables for text in table["text"].to_pylist()]
    engine = bm25s.BM25()
    engine.index(bm25s.tokenize(texts, stopwords=[], show_progress=False), show_progress=False)
    found = []
    for query in queries:
        (words,) = bm25s.tokenize([query], stopwords=[], return_ids=False, show_progress=False)
        scores = engine.get_scores(words)
        order = sorted(range(len(texts)), key=lambda row: (-scores[row], row))[:k]
        found.append([(f"d{row:04d}", scores[row]) for row in order if scores[row] > 0])
    return found


@pytest.mark.parametrize("shards", [1, 3])
def test_scores_and_order_are_those_of_bm25s(tmp_path: Path, shards: int) -> None:
    out = str(tmp_path / "index")
    manifest = build_text_index(documents(), out, corpus=CORPUS, shards=shards)
    assert manifest.details["recall"]["value"] == 1.0
    assert manifest.details["words"]["method"] == "lucene"
    index = open_index(out)
    assert index.reads == "text"
    queries = ["Word0, word1!", "word2 word2 nowhere word9", "word11 word12", "nowhere"]
    for hits, expected in zip(index.search(queries, 12), reference(queries, 12), strict=True):
        assert [hit.score for hit in hits] == pytest.approx([s for _, s in expected], rel=1e-6)
        assert {hit.id for hit in hits[:5]} <= {name for name, _ in expected}
    assert index.search("word0", 3) == index.search(["word0"], 3)
    assert index.search("nowhere", 3) == [[]]
    evens = index.search("word0 word1", 10, {"even": True})[0]
    assert len(evens) == 10
    assert all(int(hit.id[1:]) % 2 == 0 for hit in evens)


def test_a_finished_index_is_left_alone_and_another_corpus_refused(tmp_path: Path) -> None:
    out = str(tmp_path / "index")
    first = build_text_index(documents(), out, corpus=CORPUS)
    assert build_text_index([], out, corpus=CORPUS) == first
    other = Input(kind="corpus", uri="docs.jsonl", fingerprint="c2")
    with pytest.raises(ArtifactError, match="other settings or inputs"):
        build_text_index(documents(), out, corpus=other)


def test_faults_are_told_in_one_line(tmp_path: Path) -> None:
    out = str(tmp_path / "index")
    with pytest.raises(InputError, match="no text column 'body'; there are id, text, even"):
        build_text_index(documents(), out, corpus=CORPUS, text_column="body")
    with pytest.raises(InputError, match="no word in 1 documents"):
        build_text_index([pa.table({"id": ["a"], "text": ["!"]})], out, corpus=CORPUS)
    with pytest.raises(InputError, match="'a' stands in two rows"):
        build_text_index([pa.table({"id": ["a", "a"], "text": ["xy", "z"]})], out, corpus=CORPUS)
    build_text_index(documents(), out, corpus=CORPUS)
    with pytest.raises(InputError, match="query 1 is int: this index takes texts"):
        open_index(out).search(["a", 3])
