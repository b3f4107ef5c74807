"""The job as people run it: a process, its exit status, its files; killed with -9 and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybert.artifacts import Folder, read_manifest, read_tables
from raybert.errors import RaybertError


def command(root: Path, corpus: Path, out: Path, *more: str) -> list[str]:
    job = root / "pipelines" / "encode_corpus.py"
    return [
        sys.executable,
        str(job),
        *("--corpus", str(corpus), "--out", str(out), "--model", "all-MiniLM-L6-v2"),
        *("--tracking-uri", "none", "--device", "cpu", "--rows-per-shard", "32"),
        *("--max-seq-length", "32", *more),
    ]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def corpus(root: Path, tmp_path: Path) -> Path:
    """The first rows of the bundled corpus."""
    table = pq.read_table(root / "data" / "demo" / "docs.parquet").slice(0, 400)
    pq.write_table(table, tmp_path / "docs.parquet")
    return tmp_path / "docs.parquet"


def test_a_killed_job_resumes_to_the_rows_of_a_clean_run(
    root: Path, corpus: Path, tmp_path: Path
) -> None:
    clean, out = tmp_path / "clean", tmp_path / "out"
    assert run(*command(root, corpus, clean)).returncode == 0
    with subprocess.Popen(
        command(root, corpus, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 240
        while len(list(out.glob("progress/*/*.json"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert not (out / "manifest.json").exists()
    before = len(list(out.glob("progress/*/*.json")))
    assert before >= 4
    again = run(*command(root, corpus, out))
    assert again.returncode == 0, again.stderr
    encoded = int(again.stdout.split(" encoded")[0].rsplit(" ", 1)[-1])
    assert encoded <= 400 - 32 * before
    tables = [pa.concat_tables(read_tables(Folder(p), read_manifest(p))) for p in (clean, out)]
    assert tables[0].equals(tables[1])

    third = run(*command(root, corpus, out))
    assert third.returncode == 0
    assert "nothing to do: all 400 rows are encoded already" in third.stdout
    manifest = json.loads((out / "manifest.json").read_text())
    assert [item["kind"] for item in manifest["inputs"]] == ["corpus", "model"]
    assert manifest["settings"]["corpus"] == [str(corpus)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--text-column", "body"], "no column 'body' for --text-column; the columns are id, t"),
        (["--corpus", "none.parquet"], "no such file"),
        (["--model", "/no/such/model"], "no such folder"),
        (["--prompt-name", "poem"], "prompt_name 'poem'"),
        (["--precision", "float8"], "--precision 'float8'"),
        (["--rows-per-shard", "0"], "--rows-per-shard '0'"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_a_fault_is_one_line_and_leaves_nothing(
    load_job: Callable[[str], ModuleType],
    root: Path,
    corpus: Path,
    tmp_path: Path,
    flags: list[str],
    message: str,
) -> None:
    job = load_job("encode_corpus")
    arguments = command(root, corpus, tmp_path / "out", *flags)[2:]
    with pytest.raises(RaybertError) as caught:
        job.main(job.EncodeCorpus.from_command_line(arguments))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_fault_ends_the_process_with_2_and_one_line(
    root: Path, corpus: Path, tmp_path: Path
) -> None:
    done = run(*command(root, corpus, tmp_path / "out", "--text-column", "body"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
