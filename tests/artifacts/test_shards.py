from pathlib import Path

import pyarrow as pa
import pytest

from raybert.artifacts import Folder, Manifest, read_table, read_tables, write_table
from raybert.errors import ArtifactError

TABLE = pa.table({"id": ["a", "b"], "x": [1, 2]})


def test_a_shard_reads_back_whole_or_by_column(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    shard = write_table(folder, "shards/00000.parquet", TABLE)
    assert shard.rows == 2
    assert shard.bytes == (tmp_path / "shards" / "00000.parquet").stat().st_size
    assert read_table(folder, shard) == TABLE
    assert read_table(folder, shard, ["x"]).column_names == ["x"]
    manifest = Manifest(kind="embeddings", shards=(shard, shard))
    assert sum(table.num_rows for table in read_tables(folder, manifest)) == 4


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_named(tmp_path: Path, harm: str) -> None:
    folder = Folder(tmp_path)
    shard = write_table(folder, "shards/00007.parquet", TABLE)
    path = tmp_path / shard.file
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif harm == "cut":
        path.write_bytes(data[:-5])
    else:
        path.unlink()
    with pytest.raises(ArtifactError, match=r"00007\.parquet: (damaged|no such file)"):
        read_table(folder, shard)


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    one, two = (write_table(folder, f"{name}.parquet", TABLE) for name in "ab")
    assert one.checksum == two.checksum
