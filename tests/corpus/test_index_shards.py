from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.corpus import Columns
from raybert.corpus.index_shards import CorpusTables, SpreadIndex, each_on_ray, with_progress
from raybert.errors import ArtifactError, InputError
from raybert.index import build_index, open_index


def write_embeddings(folder: Folder, vectors: Any) -> str:
    ids = [f"d{row:04d}" for row in range(len(vectors))]
    shards = []
    for at in range(0, len(vectors), 64):
        block = vectors[at : at + 64]
        column = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), block.shape[1])
        table = pa.table({"id": ids[at : at + 64], "vector": column})
        shards.append(write_table(folder, f"shards/{at:05d}.parquet", table))
    model = Input(kind="model", uri="models/m", fingerprint="m1")
    rows = len(vectors)
    write_manifest(
        folder, Manifest(kind="embeddings", rows=rows, inputs=(model,), shards=tuple(shards))
    )
    return folder.uri


@pytest.mark.usefixtures("ray_session")
def test_built_and_searched_on_ray_is_as_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # relative addresses must mean the same to workers
    draw = np.random.default_rng(0)
    vectors = draw.integers(-2, 3, (300, 12)).astype(np.float32)  # many equal scores
    embeddings = write_embeddings(Folder("embeddings"), vectors)
    documents = [pa.table({"id": [f"d{row:04d}" for row in range(300)], "n": range(300)})]
    one = build_index(embeddings, "one", metric="dot", documents=documents, probes=30)
    parts = [
        build_index(
            embeddings, out, metric="dot", shards=5, documents=documents, probes=30, each=each
        )
        for out, each in (("here", map), ("ray", with_progress(each_on_ray(2))))
    ]
    assert re.search(r"build 5 of 5 shards  [1-9][\d,]* rows/s", capsys.readouterr().err)
    assert [s.checksum for s in parts[0].shards] == [s.checksum for s in parts[1].shards]
    assert one.details["recall"]["value"] == parts[1].details["recall"]["value"] == 1.0

    queries = draw.standard_normal((9, 12)).astype(np.float32)
    expected = open_index("one").search(queries, 20)
    spread = SpreadIndex("ray", workers=2)
    assert spread.search(queries, 20) == open_index("ray").search(queries, 20) == expected
    condition = {"n": {"lt": 40}}
    assert spread.search(queries, 5, condition) == open_index("one").search(queries, 5, condition)
    with pytest.raises(InputError, match="no column 'year'"):
        spread.search(queries, 5, {"year": 1})


def test_a_corpus_is_read_as_often_as_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "docs.csv"
    file.write_text("id,text\na,one\nb,two\n")
    corpus = CorpusTables([str(file)], Columns("text", "id"))
    for _ in range(2):
        assert pa.concat_tables(list(corpus))["text"].to_pylist() == ["one", "two"]
    assert corpus.of(corpus.input) is corpus
    with pytest.raises(ArtifactError, match="is not what was encoded"):
        corpus.of(Input(kind="corpus", uri="x", fingerprint="other"))
