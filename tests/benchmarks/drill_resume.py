"""The resume drill: kill -9 at random moments, run again, compare with one clean run.

    python tests/benchmarks/drill_resume.py --corpus FILE.parquet --column document --kills 10

Once for the driver, once for an encoding worker. A line a kill: when it fell, how many rows were
done, how many the rerun encoded, and whether the rows equal the clean run's. Last, one row in a
hundred is changed and one in a hundred appended: how many rows does the job encode then?
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from raybert.artifacts import Folder, read_manifest, read_tables

ROOT = Path(__file__).parents[2]
ROWS_PER_SHARD = 512


@dataclass(frozen=True, slots=True)
class Job:
    """The job under test."""

    corpus: Path
    max_seq_length: int

    def start(self, out: Path) -> subprocess.Popen[str]:
        """Start the job in a process of its own."""
        return subprocess.Popen(
            [
                *(sys.executable, str(ROOT / "pipelines" / "encode_corpus.py")),
                *("--corpus", str(self.corpus), "--model", "all-MiniLM-L6-v2", "--out", str(out)),
                *("--rows-per-shard", str(ROWS_PER_SHARD), "--tracking-uri", "none"),
                *("--max-seq-length", str(self.max_seq_length), "--device", "cpu"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, out: Path) -> int:
        """Run the job to its end; return how many rows it encoded."""
        process = self.start(out)
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"the job failed with {process.returncode}")
        return int(said.split(" encoded")[0].rsplit(" ", 1)[-1].replace(",", ""))


def rows_of(out: Path) -> pa.Table:
    """Return all rows of an artifact."""
    return pa.concat_tables(read_tables(Folder(out), read_manifest(out)))


def done_rows(out: Path) -> int:
    """Return how many rows are safe by now."""
    return ROWS_PER_SHARD * len(list(out.glob("progress/*/*.json")))


def drill(job: Job, out: Path, total: int, share: float, victim: str) -> tuple[int, int]:
    """Kill the victim when a share of the rows is done; return (rows done then, rows encoded)."""
    process = job.start(out)
    while done_rows(out) < share * total and process.poll() is None:
        time.sleep(0.02)
    time.sleep(random.random())
    done = done_rows(out)
    if victim == "driver":
        process.kill()
        process.wait()
        return done, job.run(out)
    for child in psutil.Process(process.pid).children(recursive=True):
        if "MapBatches(_Worker)" in " ".join(child.cmdline()):
            child.kill()
    said, _ = process.communicate()
    if process.returncode:
        return done, job.run(out)
    return done, int(said.split(" encoded")[0].rsplit(" ", 1)[-1].replace(",", "")) - done


def change(job: Job, clean: Path) -> tuple[int, int]:
    """Change 1% of the rows, append as many; return (rows then, rows the job says it encoded)."""
    texts = pq.read_table(job.corpus)["text"].to_pylist()
    rows = len(texts)
    for row in random.sample(range(rows), rows // 100):
        texts[row] = f"Revised: {texts[row]}"
    texts += [f"Appended: {text}" for text in random.sample(texts, rows // 100)]
    write_corpus(job.corpus, texts)
    return len(texts), job.run(clean)


def write_corpus(path: Path, texts: list[str]) -> None:
    """Write texts with their row numbers as ids."""
    ids = [str(number) for number in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": texts}), path)


def main() -> None:
    """Run the drill and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="Parquet file with texts")
    parser.add_argument("--column", default="text")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--max-seq-length", type=int, default=256)
    parser.add_argument("--victims", nargs="+", default=["driver", "worker"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    texts = pq.read_table(arguments.corpus, columns=[arguments.column])[arguments.column]
    texts = texts.slice(0, arguments.rows).to_pylist()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_corpus(folder / "corpus.parquet", texts)
        job = Job(folder / "corpus.parquet", arguments.max_seq_length)
        started = time.monotonic()
        job.run(folder / "clean")
        print(f"clean run: {len(texts)} rows in {time.monotonic() - started:.0f} s", flush=True)
        clean = rows_of(folder / "clean")
        for victim in arguments.victims:
            for number in range(arguments.kills):
                out = folder / f"{victim}-{number}"
                done, encoded = drill(job, out, len(texts), random.random() * 0.85, victim)
                same = rows_of(out).equals(clean)
                again = max(0, done + encoded - len(texts))
                print(
                    f"{victim} {number}: killed at {done} rows, then {encoded} encoded, "
                    f"{again} of them again ({again / len(texts):.1%}), "
                    f"rows {'equal' if same else 'DIFFER'}",
                    flush=True,
                )
        rows, encoded = change(job, folder / "clean")
        print(f"1% changed, 1% appended: {encoded} of {rows} rows encoded ({encoded / rows:.2%})")


if __name__ == "__main__":
    main()
