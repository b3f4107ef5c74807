from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybert.errors import InputError
from raybert.evaluation import read_qrels

EXPECTED = {"q1": {"d1": 1.0, "d2": 0.0}, "q2": {"d 3": 2.0}}


@pytest.mark.parametrize(
    "text",
    [
        "q1\t0\td1\t1\nq1\t0\td2\t0\nq2\t0\td 3\t2\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td 3\t2\n",
        "\ufeffquery,doc,rel\r\nq1,d1,1\r\nq1,d2,0\r\nq2,d 3,2\r\n",
    ],
)
def test_reads_what_is_in_use(tmp_path: Path, text: str) -> None:
    file = tmp_path / "qrels.tsv"
    file.write_text(text, encoding="utf-8")
    assert read_qrels(str(file)) == EXPECTED


def test_reads_blanks_between_fields(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q1 0 d1 1\n\nq2   0  d3   0\n")
    assert read_qrels(str(tmp_path / "qrels")) == {"q1": {"d1": 1.0}, "q2": {"d3": 0.0}}


def test_reads_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {"query-id": ["q1", "q1", "q2"], "corpus-id": ["d1", "d2", "d 3"], "score": [1, 0, 2]}
    )
    pq.write_table(table, tmp_path / "qrels.parquet")
    assert read_qrels(str(tmp_path / "qrels.parquet")) == EXPECTED


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"q1\t0\td1\t1\nq1\td1\n", "line 2: 3 or 4 fields expected, not 2"),
        (b"q1\t0\td1\thigh\n", "relevance 'high' is no number"),
        (b"", "holds no judgement"),
        (b"q1\t0\t\xff\t1\n", "is not UTF-8"),
        (b"PAR1 and then rubbish", "unreadable Parquet"),
    ],
)
def test_faults_are_told_in_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "qrels").write_bytes(data)
    with pytest.raises(InputError, match=says):
        read_qrels(str(tmp_path / "qrels"))


def test_missing_file_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        read_qrels(str(tmp_path / "nowhere"))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "q.parquet")
    with pytest.raises(InputError, match="needs columns query_id, doc_id, relevance; there are a"):
        read_qrels(str(tmp_path / "q.parquet"))
