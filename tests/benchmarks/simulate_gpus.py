"""Does Ray keep 64 GPUs on two hosts busy? The encoding job's own stream, with devices that sleep.

    raybert up --config tests/cluster/virtual-gpus.yaml
    raybert submit tests/benchmarks/simulate_gpus.py -- --corpus $PWD/data/demo/docs.parquet \
        --model MODEL --device-s 5 --out $PWD/docs/scale

Everything is what `encode_corpus` does (scan, plan, reading, tokenizing, actors of a GPU each,
shards and receipts written), but for the model: a worker sleeps for as long as a device would
compute. Printed is the share of the time in which the virtual GPUs computed, from the last
worker's first shard to the first worker's last. The workers need some 300 MB each.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raybert.artifacts import Folder, fingerprint_folder
from raybert.corpus import (
    Columns,
    Encoding,
    Receipt,
    cut_into_pieces,
    encode,
    encode_shards,
    find_files,
    plan_shards,
    scan_corpus,
    scan_pieces,
    share_out,
)
from raybert.corpus.columns import vector_table
from raybert.corpus.steps import WriteShard
from raybert.devices import set_threads
from raybert.records import BatchUsage, ImageFiles, TokenizedTexts

SHARDS_A_PIECE = 10
WIDTH = 384


class Sleeper:
    """In a model's place: sleeps as long as a device computes, and says since when."""

    def __init__(self, device_s: float) -> None:
        import ray

        self.device_s = device_s
        self.host = ray.get_runtime_context().get_node_id()
        self.details: dict[str, Any] = {}

    def __call__(self, tokens: TokenizedTexts | ImageFiles) -> tuple[pa.Table, BatchUsage]:
        """Return zeros for vectors."""
        assert isinstance(tokens, TokenizedTexts)
        self.details = {"worker": f"{self.host}-{os.getpid()}", "begun": time.time()}
        time.sleep(self.device_s)
        count = int(np.sum(tokens.lengths))
        rows = np.zeros((len(tokens.lengths), WIDTH), np.float32)
        return vector_table(rows), BatchUsage(count, count)


def sleeping_worker(device_s: float) -> type[encode._Worker]:
    """Return the job's worker with a virtual GPU."""

    class Worker(encode._Worker):
        def __init__(self, work: Any) -> None:
            set_threads(1)
            self._step = WriteShard(Folder(work.out), Sleeper(device_s), work.plan)

    return Worker


def run(given: argparse.Namespace) -> tuple[int, list[Receipt]]:
    """Encode; returns how many virtual GPUs the cluster has, and the shards' receipts."""
    with tempfile.TemporaryDirectory(prefix="raybert-virtual-") as folder:
        table = pq.read_table(given.corpus, columns=["id", given.column])
        rows = max(1, len(table) // given.shards)
        corpus = Path(folder) / "corpus.parquet"
        pq.write_table(table, corpus, row_group_size=rows * SHARDS_A_PIECE)
        columns, out = Columns(given.column), Folder(Path(folder) / "out")
        scan = scan_corpus(cut_into_pieces(find_files([str(corpus)])), columns, scan_pieces)
        encoding = Encoding(str(given.model), fingerprint_folder(given.model))
        plan = plan_shards(out, scan, encoding.context, rows)
        gpus, _ = share_out(0, encoding.device)
        print(f"{len(plan.shards)} shards of {rows} texts, {gpus} virtual GPUs", flush=True)
        encode._Worker = sleeping_worker(given.device_s)  # type: ignore[misc]
        return gpus, list(encode_shards(plan, out, encoding, columns, gpus))


def spans_of(receipts: Sequence[Receipt]) -> list[dict[str, Any]]:
    """Return when each worker computed."""
    return [
        {
            "worker": receipt.details["worker"],
            "start": receipt.details["begun"],
            "end": receipt.details["begun"] + receipt.seconds,
        }
        for receipt in receipts
    ]


def busy(spans: Sequence[dict[str, Any]], gpus: int) -> tuple[float, float, float]:
    """Return the busy share in the steady part, over all, and the seconds of the steady part."""
    workers = sorted({span["worker"] for span in spans})
    firsts = [min(s["start"] for s in spans if s["worker"] == worker) for worker in workers]
    lasts = [max(s["end"] for s in spans if s["worker"] == worker) for worker in workers]
    begin, end = max(firsts), min(lasts)
    inside = sum(max(0.0, min(s["end"], end) - max(s["start"], begin)) for s in spans)
    whole = sum(s["end"] - s["start"] for s in spans)
    return (
        inside / (gpus * (end - begin)),
        whole / (gpus * (max(lasts) - min(firsts))),
        end - begin,
    )


def draw(spans: Sequence[dict[str, Any]], gpus: int, out: Path) -> None:
    """Draw how many of the virtual GPUs compute, over time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    zero = min(span["start"] for span in spans)
    at = np.arange(0, max(span["end"] for span in spans) - zero, 0.25)
    starts = np.sort([span["start"] - zero for span in spans])
    ends = np.sort([span["end"] - zero for span in spans])
    computing = np.searchsorted(starts, at, "right") - np.searchsorted(ends, at, "right")
    drawn, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    axes.fill_between(at, computing, step="post", alpha=0.6)
    axes.set(xlabel="seconds", ylabel="virtual GPUs computing", ylim=(0, gpus * 1.05))
    out.mkdir(parents=True, exist_ok=True)
    drawn.savefig(out / "virtual-gpus.png", dpi=110)


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="a Parquet file with ids")
    parser.add_argument("--column", default="text")
    parser.add_argument("--model", type=Path, required=True, help="whose tokenizer reads")
    parser.add_argument("--shards", type=int, default=960, help="about how many")
    parser.add_argument("--device-s", type=float, default=5.0, help="seconds of a shard")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    gpus, receipts = run(given)
    spans = spans_of(receipts)
    steady, whole, seconds = busy(spans, gpus)
    hosts = len({span["worker"].rpartition("-")[0] for span in spans})
    workers = len({span["worker"] for span in spans})
    figures = {"busy": steady, "busy with start and end": whole, "steady_s": seconds}
    print(json.dumps(figures | {"workers": workers, "hosts": hosts}))
    if given.out:
        draw(spans, gpus, given.out)


if __name__ == "__main__":
    main()
