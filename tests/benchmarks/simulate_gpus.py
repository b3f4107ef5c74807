"""Does Ray's scheduling keep 64 GPUs busy? The encoding's own stream, with sleeping devices.

    python tests/benchmarks/simulate_gpus.py --gpus 64 --shards 640 --device-s 5

The dataset is laid out as `raybert.corpus.encode` lays it out: a row a shard, a reading stage, a
pool of workers. A worker sleeps for the time that a device would compute. Printed is the share of
the time, from the last worker's first shard to the moment when no shard waits any more, in which
the virtual GPUs were computing.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa


class Sleeper:
    """A worker with a virtual GPU."""

    def __init__(self, device_s: float) -> None:
        self.device_s = device_s

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Compute: sleep, and say from when to when."""
        begun = time.time()
        time.sleep(self.device_s)
        spans = [(os.getpid(), begun, time.time())] * batch.num_rows
        worker, starts, ends = zip(*spans, strict=True)
        return pa.table({"worker": worker, "start": starts, "end": ends})


def read(batch: pa.Table, shard_bytes: int) -> pa.Table:
    """Read and tokenize: hand on as many bytes as a shard has."""
    return batch.append_column("tokens", pa.array([bytes(shard_bytes)] * batch.num_rows))


def run(gpus: int, shards: int, device_s: float, shard_bytes: int) -> dict[str, Any]:
    """Send all shards through the pool; returns every span of work."""
    import ray
    import ray.data

    ray.init(
        address="local",
        num_cpus=gpus + 8,
        num_gpus=gpus,
        include_dashboard=False,
        object_store_memory=600 * 2**20,
        log_to_driver=False,
    )
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    spans: list[dict[str, Any]] = []
    dataset = (
        ray.data.from_items([{"shard": n} for n in range(shards)], override_num_blocks=shards)
        .map_batches(
            read, fn_kwargs={"shard_bytes": shard_bytes}, batch_format="pyarrow", num_cpus=0.5
        )
        .map_batches(
            Sleeper,
            fn_constructor_kwargs={"device_s": device_s},
            batch_format="pyarrow",
            num_gpus=1,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=gpus, max_tasks_in_flight_per_actor=2),
        )
    )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        spans += batch.to_pylist()
    ray.shutdown()
    return {"gpus": gpus, "shards": shards, "device_s": device_s, "spans": spans}


def busy(result: dict[str, Any]) -> tuple[float, float, float]:
    """Return the busy share in the steady part, over all, and the seconds of the steady part."""
    spans = result["spans"]
    workers = sorted({span["worker"] for span in spans})
    firsts = [min(s["start"] for s in spans if s["worker"] == worker) for worker in workers]
    lasts = [max(s["end"] for s in spans if s["worker"] == worker) for worker in workers]
    begin, end = max(firsts), min(lasts)
    inside = sum(max(0.0, min(s["end"], end) - max(s["start"], begin)) for s in spans)
    whole = sum(s["end"] - s["start"] for s in spans)
    gpus = result["gpus"]
    return (
        inside / (gpus * (end - begin)),
        whole / (gpus * (max(lasts) - min(firsts))),
        end - begin,
    )


def draw(result: dict[str, Any], out: Path) -> None:
    """Draw how many of the virtual GPUs compute, over time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    spans = result["spans"]
    zero = min(span["start"] for span in spans)
    at = np.arange(0, max(span["end"] for span in spans) - zero, 0.25)
    starts = np.sort([span["start"] - zero for span in spans])
    ends = np.sort([span["end"] - zero for span in spans])
    computing = np.searchsorted(starts, at, "right") - np.searchsorted(ends, at, "right")
    drawn, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    axes.fill_between(at, computing, step="post", alpha=0.6)
    axes.set(xlabel="seconds", ylabel="virtual GPUs computing", ylim=(0, result["gpus"] * 1.05))
    out.mkdir(parents=True, exist_ok=True)
    drawn.savefig(out / "virtual-gpus.png", dpi=110)


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--shards", type=int, default=640)
    parser.add_argument("--device-s", type=float, default=5.0, help="seconds of a shard")
    parser.add_argument("--shard-bytes", type=int, default=200_000, help="bytes of its tokens")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = run(given.gpus, given.shards, given.device_s, given.shard_bytes)
    steady, whole, seconds = busy(result)
    print(json.dumps({"busy": steady, "busy with start and end": whole, "steady_s": seconds}))
    if given.out:
        draw(result, given.out)


if __name__ == "__main__":
    main()
