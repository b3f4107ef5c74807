"""Encode, mine, train and serve on three hosts, each with a network and an object store its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from raybert.jobs import status

pytestmark = pytest.mark.cluster
SHARE = 0.6
TURNS = 2
TRAIN = (
    *("--data.columns", '{"anchor": "anchor", "positive": "positive"}'),
    *("--loss.name", "MultipleNegativesRankingLoss", "--max-seq-length", "32"),
    *("--batch.size", "16", "--schedule.max-steps", "6"),
)


def test_two_hosts_encode_twice_as_fast_as_one(
    hosts: Any, minilm: Path, texts: dict[str, Path]
) -> None:
    """By turns, the best run of each: what else the machine has to do only slows."""
    corpus = texts["docs.parquet"]
    speeds: dict[int, list[float]] = {1: [], 2: []}
    written = []
    for turn in range(TURNS):
        with hosts.limited(SHARE):
            for number in (2, 1):
                out = hosts.folder / f"turn-{turn}-by-{number}"
                hosts.run("encode_corpus", *hosts.encode(minilm, corpus, out, number))
                speeds[number].append(hosts.speed(out))
                written.append(hosts.shards(out))
                if number == 2:
                    hosts.kill(3)
                    hosts.wait_for(lambda: len(hosts.alive()) == 2)
        hosts.up()
    for number, found in speeds.items():
        shown = ", ".join(f"{speed:.1f}" for speed in found)
        print(f"rows/s of {number} host(s), {SHARE:.0%} of a core each: {shown}")
    ratio = max(speeds[2]) / max(speeds[1])
    print(f"two hosts: {ratio:.2f} times one")
    assert all(shards == written[0] for shards in written)
    assert ratio >= 1.8


def without_dropout(model: Path, copy: Path) -> Path:
    """Copy a model; without dropout, whose noise is each rank's own."""
    shutil.copytree(model, copy)
    config = json.loads((copy / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def test_training_on_two_hosts_gives_the_weights_of_one(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path]
) -> None:
    model = without_dropout(minilm, hosts.folder / "no-dropout")
    pairs = hosts.folder / "negatives"
    hosts.run(
        *("mine_hard_negatives", "--queries", str(clean["queries"])),
        *("--corpus", str(clean["docs"]), "--pairs", str(texts["qrels.tsv"])),
        *("--rules.num-negatives", "1", "--out", str(pairs)),
    )
    weights = {}
    for workers in ("2", "0"):
        out = hosts.folder / f"model-{workers}"
        data = ("--model", str(model), "--data.files", str(pairs / "shards"))
        scale = ("--scale.workers", workers, "--scale.threads", "1")
        hosts.run("train_dense", *data, *TRAIN, *scale, "--out", str(out))
        weights[workers] = load_file(out / "model.safetensors")
    before = load_file(minilm / "model.safetensors")
    apart, step = (
        max(float(np.abs(weights["0"][name] - other[name]).max()) for name in weights["0"])
        for other in (weights["2"], before)
    )
    print(f"greatest difference of a weight {apart:.1e}; training moved one by {step:.1e}")
    assert apart < 1e-5 < step


def test_a_host_that_hangs_is_given_up_and_started_anew(hosts: Any) -> None:
    def states() -> dict[str, str]:
        return {service.name: service.state for service in status()}

    assert states()["host3"] == "ready"
    hosts.freeze(3)
    hosts.wait_for(lambda: states()["host3"] == "lost")
    hosts.up()
    assert states()["host3"] == "ready"
    assert len(hosts.alive()) == 3


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
