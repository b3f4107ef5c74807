from pathlib import Path

import pyarrow as pa

from raybert.artifacts import Folder, content_hash, write_table
from raybert.corpus.reuse import EncodedRows


def test_rows_are_found_by_their_whole_content(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    texts = [f"text {number}" for number in range(10)]
    shards = []
    for start in (0, 5):
        ids = texts[start : start + 5]
        table = pa.table(
            {
                "id": ids,
                "vector": pa.array(
                    [[float(start + n)] for n in range(5)], pa.list_(pa.float32(), 1)
                ),
                "content": [content_hash(text, "c") for text in ids],
            }
        )
        shards.append(write_table(folder, f"shards/{start}.parquet", table))
    encoded = EncodedRows(folder, shards)
    assert len(encoded) == 10
    first = content_hash(texts[7], "c")
    impostor = first[:16] + "0" * 16
    wanted = [first, content_hash("unknown", "c"), impostor, content_hash(texts[2], "c"), first]
    rows, vectors = encoded.find(wanted)
    assert vectors is not None
    found: dict[int, list[float]] = dict(zip(rows, vectors["vector"].to_pylist(), strict=True))
    assert found == {0: [7.0], 3: [2.0], 4: [7.0]}
    assert vectors.column_names == ["vector"]


def test_nothing_encoded_nothing_found(tmp_path: Path) -> None:
    assert EncodedRows(Folder(tmp_path), []).find(["0" * 32]) == ([], None)
