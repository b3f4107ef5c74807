"""The kill drill of the join: kill -9 a mining job at random moments, run it again, compare.

    python tests/benchmarks/drill_mining.py --vectors FILE.npy --rows 20000 --kills 5

Once for the driver, once for a worker. A line a kill: how many query shards had their receipt when
it fell, how many the rerun compared, and whether the mined rows equal the clean run's.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from raybert.artifacts import (
    Folder,
    Input,
    Manifest,
    read_manifest,
    read_tables,
    write_manifest,
    write_table,
)

ROOT = Path(__file__).parents[2]
SHARDS = 12


def lay_out(folder: Path, vectors: np.ndarray) -> list[str]:
    """Write two sides of embeddings with their texts, and who answers whom; return the flags."""
    ids = [f"t{row:06d}" for row in range(len(vectors))]
    pq.write_table(pa.table({"id": ids, "text": ids}), folder / "texts.parquet")
    (folder / "pairs.tsv").write_text("".join(f"{name}\t0\t{name}\t1\n" for name in ids))
    flags = ["--pairs", str(folder / "pairs.tsv"), "--tracking-uri", "none", "--workers", "2"]
    noise = np.random.default_rng(0).normal(size=vectors.shape) * 0.03
    for side, rows in (("queries", vectors + noise), ("corpus", vectors)):
        own, shards = Folder(folder / side), []
        for at, part in enumerate(np.array_split(np.arange(len(rows)), SHARDS)):
            flat = pa.array(rows[part].astype(np.float32).reshape(-1))
            column = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
            table = pa.table({"id": [ids[row] for row in part], "vector": column})
            shards.append(write_table(own, f"shards/{at:05d}.parquet", table))
        settings = {
            "corpus": [str(folder / "texts.parquet")],
            "text_column": "text",
            "id_column": "id",
        }
        model = Input(kind="model", uri="model", fingerprint="model")
        manifest = Manifest(
            kind="embeddings", settings=settings, shards=tuple(shards), inputs=(model,)
        )
        write_manifest(own, manifest)
        flags += [f"--{side}", str(folder / side)]
    return flags


def start(flags: list[str], out: Path) -> subprocess.Popen[str]:
    """Start the job in a process of its own."""
    command = [sys.executable, str(ROOT / "pipelines" / "mine_hard_negatives.py"), *flags]
    command += ["--rules.relative-margin", "0.05", "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(process: subprocess.Popen[str]) -> int:
    """Wait for a job; return how many query shards it compared."""
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the job failed with {process.returncode}")
    return said.count("compared query shard")


def done(out: Path) -> int:
    """Return how many query shards have their receipt."""
    return len(list(out.glob("progress/*/*.json")))


def drill(flags: list[str], out: Path, share: float, victim: str) -> tuple[int, int]:
    """Kill the victim when a share of the shards is done; return (done then, compared after)."""
    process = start(flags, out)
    while done(out) < share * SHARDS and process.poll() is None:
        time.sleep(0.02)
    time.sleep(random.random())
    safe = done(out)
    if victim == "driver":
        process.kill()
        process.wait()
        return safe, finish(start(flags, out))
    for child in psutil.Process(process.pid).children(recursive=True):
        if "_compare" in " ".join(child.cmdline()):
            child.kill()
    return safe, finish(process) - safe


def main() -> None:
    """Run the drill and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=Path, required=True, help="NumPy file [rows, width]")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--victims", nargs="+", default=["driver", "worker"])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        flags = lay_out(folder, np.load(given.vectors, mmap_mode="r")[: given.rows])
        started = time.monotonic()
        finish(start(flags, folder / "clean"))
        print(f"clean run: {given.rows} rows in {time.monotonic() - started:.0f} s", flush=True)
        clean = rows_of(folder / "clean")
        for victim in given.victims:
            for number in range(given.kills):
                out = folder / f"{victim}-{number}"
                safe, compared = drill(flags, out, random.random() * 0.85, victim)
                same = "equal" if rows_of(out).equals(clean) else "DIFFER"
                again = max(0, safe + compared - SHARDS)
                print(
                    f"{victim} {number}: killed at {safe} of {SHARDS} query shards, "
                    f"then {compared} compared, {again} of them again, rows {same}",
                    flush=True,
                )


def rows_of(out: Path) -> pa.Table:
    """Return all rows of an artifact."""
    return pa.concat_tables(read_tables(Folder(out), read_manifest(out)))


if __name__ == "__main__":
    main()
