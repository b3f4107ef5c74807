from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from raybert.errors import ArtifactError
from raybert.index.log import Record, append_record, read_log


def record(sequence: int, rows: int = 3) -> Record:
    return Record(sequence, "upsert", pa.table({"id": [f"d{row}" for row in range(rows)]}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of three records."""
    log = tmp_path / "a.wal"
    log.touch()
    end = 0
    for sequence in (1, 2, 3):
        end = append_record(log, record(sequence), end)
    return log


def test_records_come_back_in_order(path: Path) -> None:
    tail = read_log(path)
    assert [each.sequence for each in tail.records] == [1, 2, 3]
    assert tail.records[0] == record(1)
    assert (tail.end, tail.torn) == (path.stat().st_size, 0)
    assert read_log(path, tail.end).records == []


def test_a_record_cut_anywhere_is_torn_and_the_rest_stands(path: Path) -> None:
    whole = path.read_bytes()
    second = len(whole) * 2 // 3
    for length in range(second + 1, len(whole)):
        path.write_bytes(whole[:length])
        tail = read_log(path)
        assert [each.sequence for each in tail.records] == [1, 2]
        assert (tail.end, tail.torn) == (second, length - second)


def test_what_is_torn_goes_when_the_next_record_comes(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    append_record(path, Record(3, "delete", pa.table({"id": ["d1"]})), read_log(path).end)
    tail = read_log(path)
    assert [each.operation for each in tail.records] == ["upsert", "upsert", "delete"]
    assert tail.torn == 0


def test_a_flipped_bit_before_a_whole_record_is_damage(path: Path) -> None:
    whole = path.read_bytes()
    record_bytes = len(whole) // 3
    for at in range(record_bytes, 2 * record_bytes, 7):
        data = bytearray(whole)
        data[at] ^= 16
        path.write_bytes(data)
        with pytest.raises(ArtifactError, match=rf"a.wal: damaged at byte {record_bytes}:"):
            read_log(path)


def test_a_record_that_cannot_be_written_whole_is_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ArtifactError, match=r"a.wal: cannot be written: No space left"):
        append_record(path, record(4), len(before))
    assert path.read_bytes() == before


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"b.wal: no such file"):
        read_log(tmp_path / "b.wal")
