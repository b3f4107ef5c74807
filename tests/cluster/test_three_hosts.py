"""Encode, mine, train and serve on three hosts, each with a network and an object store its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.cluster
TRAIN = (
    *("--data.columns", '{"anchor": "anchor", "positive": "positive"}'),
    *("--loss.name", "MultipleNegativesRankingLoss", "--max-seq-length", "32"),
    *("--batch.size", "16", "--schedule.max-steps", "6"),
)


def test_two_hosts_encode_almost_twice_as_fast_as_one(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path]
) -> None:
    """Shards a second between the first and the last: starting workers is the same for both."""
    hosts.kill(3)
    hosts.wait_for(lambda: len(hosts.alive()) == 2)
    out = hosts.folder / "by-one"
    arguments = hosts.encode(minilm, texts["docs.parquet"], out)
    arguments[arguments.index("--workers") + 1] = "1"
    begun = time.monotonic()
    hosts.run("encode_corpus", *arguments)
    took = time.monotonic() - begun
    hosts.up()
    one, two = hosts.speed(out), hosts.speed(clean["docs"])
    print(f"one host: {one:.1f} rows/s, whole job {took:.0f} s")
    print(f"two hosts: {two:.1f} rows/s, whole job {hosts.clean_s['docs']:.0f} s")
    print(f"two hosts: {two / one:.2f} times one")
    assert hosts.shards(out) == hosts.shards(clean["docs"])
    ceiling = cores_together()
    print(f"two cores: {ceiling:.2f} times one, in bare matrix products")
    assert two / one >= min(1.8, 0.9 * ceiling)


PRODUCTS = """
import os, sys, time, torch
os.sched_setaffinity(0, {int(sys.argv[1])})
torch.set_num_threads(1)
x, w, begun, count = torch.randn(1024, 384), torch.randn(384, 1536), time.monotonic(), 0
while time.monotonic() - begun < 4:
    x @ w
    count += 1
print(count)
"""


def cores_together() -> float:
    """Return what two cores do at once over what one does: what two hosts here can reach."""

    def products(*cores: int) -> int:
        started = [
            subprocess.Popen([sys.executable, "-c", PRODUCTS, str(core)], stdout=subprocess.PIPE)
            for core in cores
        ]
        return sum(int(process.communicate()[0]) for process in started)

    return products(0, 1) / products(0)


def test_training_on_two_hosts_gives_the_weights_of_one(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path]
) -> None:
    pairs = hosts.folder / "negatives"
    hosts.run(
        *("mine_hard_negatives", "--queries", str(clean["queries"])),
        *("--corpus", str(clean["docs"]), "--pairs", str(texts["qrels.tsv"])),
        *("--rules.num-negatives", "1", "--out", str(pairs)),
    )
    weights = {}
    for workers in ("2", "0"):
        out = hosts.folder / f"model-{workers}"
        data = ("--model", str(minilm), "--data.files", str(pairs / "shards"))
        scale = ("--scale.workers", workers, "--scale.threads", "1")
        hosts.run("train_dense", *data, *TRAIN, *scale, "--out", str(out))
        weights[workers] = load_file(out / "model.safetensors")
    apart = max(
        float(np.abs(weights["2"][name] - weights["0"][name]).max()) for name in weights["0"]
    )
    moved = load_file(minilm / "model.safetensors")
    step = max(float(np.abs(weights["0"][name] - moved[name]).max()) for name in moved)
    print(f"greatest difference of a weight {apart:.1e}; training moved one by {step:.1e}")
    assert apart < 1e-5 < step


def test_encoding_is_the_same_on_three_hosts_as_on_one(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path]
) -> None:
    from raybert import DenseEncoder
    from raybert.artifacts import Folder, read_manifest, read_table

    folder = Folder(str(clean["queries"]))
    table = read_table(folder, read_manifest(folder).shards[0])
    encoder = DenseEncoder(minilm, device="cpu")
    encoder.max_seq_length = 48
    rows = pq.read_table(texts["queries.parquet"]).to_pylist()
    known = {row["id"]: row["text"] for row in rows}
    ids = table["id"].to_pylist()
    expected = encoder.encode([known[key] for key in ids])
    found = np.stack(table["vector"].to_pylist())
    assert np.abs(found - expected).max() < 1e-5


def test_a_search_is_served_from_both_workers(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path]
) -> None:
    index = hosts.folder / "index"
    hosts.run("build_index", "--embeddings", str(clean["docs"]), "--out", str(index))
    url = hosts.serve({"minilm": str(minilm)}, {"docs": str(index)}, replicas=2)
    body = {"index": "docs", "query": "sort by two keys", "top_k": 3}
    reply = httpx.post(f"{url}/v1/search", json=body, timeout=60, trust_env=False)
    assert reply.status_code == 200, reply.text
    assert len(reply.json()["hits"]) == 3
    assert len(hosts.replica_nodes()) == 2
    hosts.stop_serving()
